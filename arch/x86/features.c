/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/features.h"

#define FEATURE(leaf, sub, reg, bit, name, policy) { leaf, sub, FEATURE_##reg, bit, FEATURE_##policy, name },
const struct feature features[] = {
#include "arch/x86/features.def"
};
#undef FEATURE
const unsigned nfeatures = ARRAY_SIZE(features);

uint32_t feature_mask(uint32_t leaf, uint32_t sub, enum feature_reg reg, enum feature_policy policy)
{
	uint32_t mask = 0;
	for (unsigned i = 0; i < nfeatures; i++)
		if (features[i].leaf == leaf && features[i].sub == sub && features[i].reg == reg &&
		    features[i].policy == policy)
			mask |= 1U << features[i].bit;
	return mask;
}

const char *feature_name(uint32_t leaf, uint32_t sub, enum feature_reg reg, unsigned bit)
{
	for (unsigned i = 0; i < nfeatures; i++)
		if (features[i].leaf == leaf && features[i].sub == sub && features[i].reg == reg &&
		    features[i].bit == bit)
			return features[i].name;
	return "?";
}
