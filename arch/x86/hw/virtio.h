/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.2 over PCI: ids, status, features, the split ring (2.7), the capabilities and the common configuration
 * (4.1.4), the network device (5.1). Definitions only; every room may include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define VIRTIO_PCI_VENDOR      0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040 /* a modern device is this and its type */
enum { VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_RNG = 4 };
#define VIRTIO_NO_VECTOR 0xffff

enum { /* device status (2.1) */
       VIRTIO_ACKNOWLEDGE = 1,
       VIRTIO_DRIVER = 2,
       VIRTIO_DRIVER_OK = 4,
       VIRTIO_FEATURES_OK = 8,
       VIRTIO_NEEDS_RESET = 64,
       VIRTIO_FAILED = 128,
};
enum { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 }; /* ISR status (4.1.4.5) */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

/* Split ring: flags of a descriptor and of the two rings. */
enum { VIRTQ_DESC_NEXT = 1, VIRTQ_DESC_WRITE = 2, VIRTQ_DESC_INDIRECT = 4 };
enum { VIRTQ_AVAIL_NO_INTERRUPT = 1, VIRTQ_USED_NO_NOTIFY = 1 };

/* struct virtio_pci_cap (4.1.4): offsets, and its cfg_type. */
enum { VCAP_LEN = 2, VCAP_TYPE = 3, VCAP_BAR = 4, VCAP_OFFSET = 8, VCAP_LENGTH = 12, VCAP_EXTRA = 16 };
enum { VCAP_COMMON = 1, VCAP_NOTIFY = 2, VCAP_ISR = 3, VCAP_DEVICE = 4, VCAP_PCI_CFG = 5 };

enum { /* struct virtio_pci_common_cfg (4.1.4.3) */
       COMMON_DEVICE_FEATURE_SELECT = 0x00,
       COMMON_DEVICE_FEATURE = 0x04,
       COMMON_DRIVER_FEATURE_SELECT = 0x08,
       COMMON_DRIVER_FEATURE = 0x0c,
       COMMON_CONFIG_VECTOR = 0x10,
       COMMON_NUM_QUEUES = 0x12,
       COMMON_STATUS = 0x14,
       COMMON_GENERATION = 0x15,
       COMMON_QUEUE_SELECT = 0x16,
       COMMON_QUEUE_SIZE = 0x18,
       COMMON_QUEUE_VECTOR = 0x1a,
       COMMON_QUEUE_ENABLE = 0x1c,
       COMMON_QUEUE_NOTIFY_OFF = 0x1e,
       COMMON_QUEUE_DESC = 0x20,
       COMMON_QUEUE_DRIVER = 0x28,
       COMMON_QUEUE_DEVICE = 0x30,
       COMMON_LEN = 0x38,
};

/* The network device (5.1.3, 5.1.4, 5.1.6). */
#define VIRTIO_NET_F_CSUM           BIT(0) /* the driver may send partial checksums */
#define VIRTIO_NET_F_GUEST_CSUM     BIT(1) /* it takes them */
#define VIRTIO_NET_F_MTU            BIT(3)
#define VIRTIO_NET_F_MAC            BIT(5)
#define VIRTIO_NET_F_GUEST_TSO4     BIT(7)
#define VIRTIO_NET_F_GUEST_TSO6     BIT(8)
#define VIRTIO_NET_F_HOST_TSO4      BIT(11)
#define VIRTIO_NET_F_HOST_TSO6      BIT(12)
#define VIRTIO_NET_F_MRG_RXBUF      BIT(15)
#define VIRTIO_NET_F_STATUS         BIT(16)
#define VIRTIO_NET_F_CTRL_VQ        BIT(17)
#define VIRTIO_NET_F_GUEST_ANNOUNCE BIT(21) /* the driver announces itself when told to */
#define VIRTIO_NET_F_MQ             BIT(22) /* several pairs of queues */
#define VIRTIO_NET_F_SPEED_DUPLEX   BIT(63)
#define VNET_MTU_MIN                68 /* 5.1.4.1 */
enum { VNET_CFG_MAC = 0, VNET_CFG_STATUS = 6, VNET_CFG_MAX_PAIRS = 8, VNET_CFG_MTU = 10, VNET_CFG_LEN = 12 };
#define VNET_CFG_SPEED 12 /* in Mbit/s, with VIRTIO_NET_F_SPEED_DUPLEX; more than VNET_SPEED_MAX: not known */
#define VNET_SPEED_MAX 0x7fffffffU
#define VNET_LINK_UP   1 /* of VNET_CFG_STATUS */
#define VNET_ANNOUNCE  2 /* the driver shall announce itself, and then say that it has (5.1.6.5.4) */
/* The control queue (5.1.6.5): class, command, ...; its answer. */
enum { VNET_CTRL_CLASS = 0, VNET_CTRL_COMMAND = 1, VNET_CTRL_HDR_LEN = 2 };
enum { VNET_CTRL_ANNOUNCE = 3, VNET_CTRL_ANNOUNCE_ACK = 0 };
enum { VNET_CTRL_MQ = 4, VNET_CTRL_MQ_PAIRS = 0, VNET_CTRL_MQ_LEN = 4 }; /* with 16 bits: how many pairs it uses */
enum { VNET_CTRL_OK = 0, VNET_CTRL_ERR = 1 };
enum { /* struct virtio_net_hdr */
       VNET_HDR_FLAGS = 0,
       VNET_HDR_GSO = 1,
       VNET_HDR_HDR_LEN = 2,
       VNET_HDR_GSO_SIZE = 4,
       VNET_HDR_CSUM_START = 6,
       VNET_HDR_CSUM_OFFSET = 8,
       VNET_HDR_BUFFERS = 10,
       VNET_HDR_LEN = 12,
};
#define VNET_HDR_NEEDS_CSUM 1 /* of VNET_HDR_FLAGS */
#define VNET_HDR_DATA_VALID 2
enum { VNET_GSO_NONE = 0, VNET_GSO_TCPV4 = 1, VNET_GSO_TCPV6 = 4, VNET_GSO_ECN = 0x80 };

/* The block device (5.2.3, 5.2.4, 5.2.6). */
#define VIRTIO_BLK_F_SIZE_MAX     BIT(1)
#define VIRTIO_BLK_F_SEG_MAX      BIT(2)
#define VIRTIO_BLK_F_RO           BIT(5)
#define VIRTIO_BLK_F_BLK_SIZE     BIT(6)
#define VIRTIO_BLK_F_FLUSH        BIT(9)
#define VIRTIO_BLK_F_TOPOLOGY     BIT(10)
#define VIRTIO_BLK_F_MQ           BIT(12)
#define VIRTIO_BLK_F_DISCARD      BIT(13)
#define VIRTIO_BLK_F_WRITE_ZEROES BIT(14)
enum { /* struct virtio_blk_config */
       VBLK_CFG_CAPACITY = 0,
       VBLK_CFG_SIZE_MAX = 8,
       VBLK_CFG_SEG_MAX = 12,
       VBLK_CFG_BLK_SIZE = 20,
       VBLK_CFG_PHYSICAL_EXP = 24, /* log2 of how many logical blocks a physical one has */
       VBLK_CFG_NUM_QUEUES = 34,
       VBLK_CFG_MAX_DISCARD = 36,
       VBLK_CFG_MAX_DISCARD_SEG = 40,
       VBLK_CFG_DISCARD_ALIGN = 44,
       VBLK_CFG_MAX_ZEROES = 48,
       VBLK_CFG_MAX_ZEROES_SEG = 52,
       VBLK_CFG_ZEROES_UNMAP = 56,
       VBLK_CFG_LEN = 60,
};
#define VBLK_SECTOR_BIT 9 /* all of its sectors are of 512 bytes, whatever BLK_SIZE says */
enum {                    /* struct virtio_blk_req; its status is the last byte of the chain */
       VBLK_REQ_TYPE = 0,
       VBLK_REQ_SECTOR = 8,
       VBLK_REQ_LEN = 16,
};
enum {
	VBLK_T_IN = 0,
	VBLK_T_OUT = 1,
	VBLK_T_FLUSH = 4,
	VBLK_T_GET_ID = 8,
	VBLK_T_DISCARD = 11,
	VBLK_T_WRITE_ZEROES = 13,
};
enum { VBLK_S_OK = 0, VBLK_S_IOERR = 1, VBLK_S_UNSUPP = 2 };
#define VBLK_ID_LEN 20
/* struct virtio_blk_discard_write_zeroes */
enum { VBLK_RANGE_SECTOR = 0, VBLK_RANGE_COUNT = 8, VBLK_RANGE_FLAGS = 12, VBLK_RANGE_LEN = 16 };
#define VBLK_RANGE_UNMAP 1
