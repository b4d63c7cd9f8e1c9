/* SPDX-License-Identifier: BSD-2-Clause */
/* The frames of a VM that it cannot run without (vm_for_each_hot): they go with its state, whatever else stays. */
#pragma once
#include "vmm/vm.h"

struct hot_frames {
	gfn_t *frame; /* ascending, each once */
	unsigned n;
};
/* The VM is paused. -ENOMEM; else hot_frames_put is owed. */
int hot_frames_get(struct hot_frames *h, struct vm *vm) must_check;
void hot_frames_put(struct hot_frames *h);
