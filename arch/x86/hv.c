/* SPDX-License-Identifier: BSD-2-Clause */
/* Picks the back end for this CPU. */
#include "arch/x86/hv_env.h"
#include "arch/x86/fpu.h"
#include <string.h>

extern const struct hv_ops svm_ops, vmx_ops;
const struct hv_env *hv_env;

const struct hv_ops *hv_detect(const struct hv_env *env, struct why *w)
{
	static const struct hv_ops *const backends[] = { &vmx_ops, &svm_ops };
	hv_env = env;
	fpu_init();
	for (unsigned i = 0; i < ARRAY_SIZE(backends); i++) {
		int err = backends[i]->probe(w);
		if (!err)
			return backends[i];
		if (err != -ENODEV) /* this vendor's CPU, but something is missing */
			return NULL;
	}
	why_set(w, -ENODEV, "this CPU has neither VT-x nor AMD-V, one of which tern needs to run VMs");
	return NULL;
}
