/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Announcing a guest's MAC after it moved: RARP request (RFC 903) broadcast whose sender and target hardware addresses
 * are both the guest's MAC, protocol addresses zero, so that every switch relearns the port.
 */
#pragma once
#include "kernel/frame.h"
#include "net/bridge.h"

#define ANNOUNCE_RARP_LEN 60 /* padded to the Ethernet minimum, without FCS */
/* Build the frame in buf; returns its length. Pure. */
size_t announce_rarp(uint8_t buf[ANNOUNCE_RARP_LEN], const uint8_t mac[ETH_ALEN]);
/*
 * Send it from that guest's port now, and again 50, 150, 250 and 350 ms later, from a task of its own (the caller does
 * not wait). Stops by itself if the port is gone by then (announce_cancel is called by bridge_remove's caller first).
 */
void announce_start(struct bridge_port *p);
void announce_cancel(struct bridge_port *p);
