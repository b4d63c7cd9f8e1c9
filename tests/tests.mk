# SPDX-License-Identifier: BSD-2-Clause
#
# The host-built tests, each with the sources under test and the fakes that it needs:
#   UNIT += NAME    tests/unit/test_NAME.c, a cmocka program    UNIT_NAME := sources
#   FUZZ += NAME    tests/fuzz/fuzz_NAME.c, a libFuzzer target  FUZZ_NAME := sources
UNIT :=
FUZZ :=
UNIT += conf
UNIT_conf := kernel/conf.c kernel/conf_value.c
FUZZ += conf
FUZZ_conf := kernel/conf.c kernel/conf_value.c
UNIT += memmap
UNIT_memmap := boot/memmap.c
