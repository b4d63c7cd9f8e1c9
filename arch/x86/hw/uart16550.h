/* SPDX-License-Identifier: BSD-2-Clause */
/* The 16550A (PC16550D data sheet). Definitions only; every room may include this. */
#pragma once

#define COM1_PORT      0x3f8
#define COM1_IRQ       4
#define COM2_PORT      0x2f8 /* these three as on the IBM PC AT, too */
#define COM2_IRQ       3
#define COM3_PORT      0x3e8
#define COM3_IRQ       COM1_IRQ
#define COM4_PORT      0x2e8
#define COM4_IRQ       COM2_IRQ
#define UART_FIFO_SIZE 16

enum {               /* registers; the first two are the divisor while LCR.DLAB is set */
       UART_RBR = 0, /* read */
       UART_THR = 0, /* written */
       UART_DLL = 0,
       UART_IER = 1,
       UART_DLM = 1,
       UART_IIR = 2, /* read */
       UART_FCR = 2, /* written */
       UART_LCR = 3,
       UART_MCR = 4,
       UART_LSR = 5,
       UART_MSR = 6,
       UART_SCR = 7,
       UART_REGS = 8,
};
#define IER_RDA       0x01
#define IER_THRE      0x02
#define IER_LINE      0x04
#define IER_MODEM     0x08
#define IER_VALID     0x0f
#define IIR_MODEM     0x00
#define IIR_NONE      0x01
#define IIR_THRE      0x02
#define IIR_RDA       0x04
#define IIR_LINE      0x06
#define IIR_TIMEOUT   0x0c
#define IIR_FIFO      0xc0
#define FCR_ENABLE    0x01
#define FCR_CLEAR_RX  0x02
#define FCR_CLEAR_TX  0x04
#define FCR_DMA       0x08
#define FCR_TRIGGER   0xc0
#define FCR_TRIGGER_8 0x80
#define LCR_8N1       0x03
#define LCR_DLAB      0x80
#define MCR_DTR       0x01
#define MCR_RTS       0x02
#define MCR_OUT1      0x04
#define MCR_OUT2      0x08 /* gates the interrupt line on a PC */
#define MCR_LOOP      0x10
#define MCR_VALID     0x1f
#define LSR_DR        0x01
#define LSR_OE        0x02
#define LSR_THRE      0x20
#define LSR_TEMT      0x40
#define MSR_DELTA     0x0f
#define MSR_TERI      0x04
#define MSR_CTS       0x10
#define MSR_DSR       0x20
#define MSR_RI        0x40
#define MSR_DCD       0x80
