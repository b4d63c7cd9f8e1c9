/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A PCI function as the devices behind it see it: configuration space with a mask of writable bits, BARs that the bus
 * places in the guest's address spaces, MSI-X. One bus, function 0 of each slot, conventional (256 bytes), no INTx.
 *
 * Locks: vpci_bus.lock -> machine's bus lock; a device's own lock -> vpci_func.msix_lock -> what machine->msi takes.
 * The hooks of vpci_func_ops and the functions behind BARs are called with none of these held.
 */
#pragma once
#include "arch/x86/hw/pci.h"
#include "vmm/dev.h"

#define PCI_SLOTS     32
#define PCI_CFG_SIZE  256
#define PCI_MSIX_MAX  192 /* vectors of a function */
#define PCI_MSIX_BANK 8   /* of them migrate together */

/* The host bridge: configuration by ports 0xcf8/0xcfc and ECAM. 0 or -errno; it registers itself. */
struct vpci_bus;
int vpci_bus_create(struct machine *m, struct vpci_bus **b);

struct vpci_func;
struct vpci_func_ops {
	/* Before the guest reads, after it has written [off, off+size) of configuration space. May be NULL. */
	void (*cfg_read)(struct vpci_func *f, unsigned off, unsigned size);
	void (*cfg_written)(struct vpci_func *f, unsigned off, unsigned size);
};
struct vpci_bar {
	uint32_t size;             /* (c) 0: not there */
	bool io;                   /* (c) */
	const struct bus_ops *ops; /* (c) */
	void *arg;                 /* (c) */
	uint64_t want;             /* [p] where the registers put it, 0: nowhere */
	uint64_t at;               /* [p] where it is on the machine's bus, 0: nowhere */
};
struct vpci_func_state { /* section "pci" */
	uint8_t cfg[PCI_CFG_SIZE];
};
struct vpci_msix_state {                   /* section "msix" */
	uint32_t table[PCI_MSIX_BANK * 4]; /* address low, high, data, control (PCI 3.0, 6.8.2.6-9) */
	uint64_t pending;
};
struct vpci_msix_bank {
	struct vpci_msix_state s;
	unsigned nvectors; /* (c) of these are there */
};
/*
 * (c) const after attach  [p] bus->lock  [x] msix_lock
 */
struct vpci_func {
	struct vpci_bus *bus;            /* (c) */
	struct dev *dev;                 /* (c) */
	unsigned slot;                   /* (c) */
	const struct vpci_func_ops *ops; /* (c) may be NULL */
	uint8_t reset_cfg[PCI_CFG_SIZE]; /* (c) at power-on */
	uint8_t wmask[PCI_CFG_SIZE];     /* (c) bits that the guest may change */
	struct vpci_bar bar[PCI_BARS];
	unsigned cap_last, cap_end;  /* (c) while built: the last capability, the first free byte */
	unsigned msix_cap, nvectors; /* (c) 0: no MSI-X */
	struct vpci_func_state s;    /* [p] */
	struct spinlock msix_lock;
	struct vpci_msix_bank *msix; /* (c) vectors by PCI_MSIX_BANK; s of each [x] */
};
struct vpci_ids {
	uint16_t vendor, device, subvendor, subdevice;
	uint8_t revision;
	uint32_t class_code; /* 24 bits: base, sub, interface */
};

/*
 * Build a function, in this order: init, then BARs and capabilities, then attach, which makes it visible in reset state
 * and adds its sections to dev. A function's dev has its slot as its instance, so that section names stay unique.
 */
void vpci_func_init(struct vpci_func *f, struct vpci_bus *b, struct dev *dev, unsigned slot,
		    const struct vpci_ids *ids);
/* size: a power of two, from 16. Takes the next free address of the window as its reset value. -ENOSPC */
int vpci_func_bar(struct vpci_func *f, unsigned bar, bool io, uint32_t size, const struct bus_ops *ops,
		  void *arg) must_check;
unsigned vpci_func_cap(struct vpci_func *f, uint8_t id, unsigned len); /* returns its offset; len counts id and link */
int vpci_func_attach(struct vpci_func *f) must_check;                  /* -EEXIST slot in use, -EINVAL */
void vpci_func_detach(struct vpci_func *f);                            /* also when it was never attached */
void vpci_func_reset(struct vpci_func *f);
static inline bool vpci_func_is_master(const struct vpci_func *f) /* may it reach memory? Any context. */
{
	return __atomic_load_n(&f->s.cfg[PCI_COMMAND], __ATOMIC_ACQUIRE) & PCI_COMMAND_MASTER;
}
extern const struct sdesc vpci_func_desc; /* obj: struct vpci_func */

/* vmm/dev/vpci_msix.c */
/* Between init and attach. -ENOMEM, and the errors of vpci_func_bar; vpci_msix_fini gives back what it took. */
int vpci_msix_init(struct vpci_func *f, unsigned bar, unsigned nvectors) must_check;
void vpci_msix_fini(struct vpci_func *f);
void vpci_msix_reset(struct vpci_func *f);
bool vpci_msix_enabled(const struct vpci_func *f);
void vpci_msix_raise(struct vpci_func *f, unsigned vector); /* sends, or leaves pending if masked. Any context */
void vpci_msix_flush(struct vpci_func *f);                  /* send what is pending and no longer masked */
unsigned vpci_msix_banks(const struct vpci_func *f);
extern const struct sdesc vpci_msix_desc; /* obj: struct vpci_msix_bank */
extern const struct sdesc vpci_host_desc; /* obj: private to vpci.c; for the self-test */
