/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The clock of the day with its CMOS RAM: a PC's two ports, and the registers behind them. The MC146818A's data sheet
 * has them; century and sizes of memory are of the IBM PC AT and its successors. Definitions only; every room may
 * include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define RTC_PORT_INDEX 0x70 /* bit 7 masks NMIs: it is no part of the index */
#define RTC_INDEX      0x7f
#define RTC_CELLS      128

enum {
	RTC_SECONDS = 0x00,
	RTC_MINUTES = 0x02,
	RTC_HOURS = 0x04,
	RTC_WEEKDAY = 0x06, /* 1: Sunday */
	RTC_DAY = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_A = 0x0a,
	RTC_B = 0x0b,
	RTC_C = 0x0c,
	RTC_D = 0x0d,
	RTC_CENTURY = 0x32,
	RTC_ABOVE_16M = 0x34, /* 2 bytes: RAM from 16 MiB to 4 GiB, in 64 KiB */
	RTC_ABOVE_4G = 0x5b,  /* 3 bytes: from 4 GiB on */
};
#define RTC_A_32KHZ  0x26   /* divider for 32.768 kHz, periodic rate 1024 Hz: as every PC has it */
#define RTC_A_UIP    BIT(7) /* an update is about to happen, or happens */
#define RTC_B_24H    BIT(1)
#define RTC_B_BINARY BIT(2)
#define RTC_B_SET    BIT(7) /* no updates: the registers are being written */
#define RTC_D_VRT    BIT(7) /* the battery is good */
#define RTC_PM       BIT(7) /* of RTC_HOURS, without RTC_B_24H */

/* From UIP to the update 244 us at least, and the update itself 1984 us. */
#define RTC_UPDATE_NS 2228000
