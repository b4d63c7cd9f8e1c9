/* SPDX-License-Identifier: BSD-2-Clause */
/* The tree of a layer (layer.h), for its own files. */
#pragma once
#include "vmm/layer.h"

#define LAYER_FAN   (1U << LAYER_BITS)
#define LAYER_ADDR  (~(uint64_t)PAGE_MASK)
#define LAYER_OURS  BIT(0) /* of a block: it is the layer's; without a page, zeros */
#define LAYER_DIRTY BIT(1) /* written since it was looked at */
#define LAYER_SEND  BIT(2) /* in the set */

/*
 * The entry of block at a level: 0, the block's own; 1, that of the leaf that has it. NULL: there is no table for it,
 * and *next is the first block behind what it would have. The lock is held.
 */
uint64_t *layer_entry(struct layer *l, uint64_t block, unsigned level, uint64_t *next);
