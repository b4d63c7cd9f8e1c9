/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O ports that every PC has had at these addresses since the IBM PC AT; sections are of the ICH9's data sheet
 * (316972), and AMD's FCH has them alike. Definitions only; every room may include this.
 */
#pragma once

/* The two 8259s (13.4): OCW1, a bit set masks its line. */
#define PIC_MASTER_MASK 0x21
#define PIC_SLAVE_MASK  0xa1

/* The 8042 (IBM PC AT Technical Reference): status is read, a command written; its line 0 resets the CPU. */
#define KBC_STATUS     0x64
#define KBC_COMMAND    0x64
#define KBC_INPUT_FULL 0x02
#define KBC_RESET      0xfe

/* Reset control (13.7.5): RST_CPU going from 0 to 1 does it, hard with SYS_RST. */
#define RST_CNT         0xcf9
#define RST_CNT_SYS_RST 0x02
#define RST_CNT_RST_CPU 0x04
