/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console's serial port, by the operator's word or the firmware's: Serial Port Console Redirection table, revisions
 * 1 to 4. Only 16550s at I/O ports are understood; the interrupt must be one of the ISA lines, else a timer looks.
 */
#include "boot/serial_port.h"
#include "arch/x86/hw/acpi.h"
#include "arch/x86/hw/uart16550.h"
#include "kernel/base/err.h"
#include <string.h>

#define PORT_MAX (UINT16_MAX + 1 - UART_REGS)

static const struct {
	const char *name, *capitals;
	uint16_t port;
	uint8_t irq;
} coms[] = { { "com1", "COM1", COM1_PORT, COM1_IRQ },
	     { "com2", "COM2", COM2_PORT, COM2_IRQ },
	     { "com3", "COM3", COM3_PORT, COM3_IRQ },
	     { "com4", "COM4", COM4_PORT, COM4_IRQ } };

/* Of 0x and up to four hexadecimal digits; 0: of something else. */
static uint32_t port_of(const char *s)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t port = 0;
	if (s[0] != '0' || s[1] != 'x' || strlen(s) > 6)
		return 0;
	for (s += 2; *s; s++) {
		const char *d = memchr(digits, *s, 16);
		if (!d)
			return 0;
		port = port << 4 | (uint32_t)(d - digits);
	}
	return port;
}

int serial_port_parse(const char *s, struct handoff_console *c)
{
	uint32_t port = port_of(s);
	for (unsigned i = 0; i < ARRAY_SIZE(coms); i++)
		if (port == coms[i].port || !strcmp(s, coms[i].name) || !strcmp(s, coms[i].capitals)) {
			*c = (struct handoff_console){ coms[i].port, coms[i].irq, 1 };
			return 0;
		}
	if (!port || port > PORT_MAX)
		return -EINVAL;
	*c = (struct handoff_console){ (uint16_t)port, 0, 1 };
	return 0;
}

/* Table "baud rate": 0 means as the firmware left it, which tern cannot ask for. */
static uint8_t divisor_of(uint8_t baud)
{
	switch (baud) {
	case SPCR_9600: return 12;
	case SPCR_19200: return 6;
	case SPCR_57600: return 2;
	default: return 1;
	}
}

static void look(void *arg, hpa_t hpa unused, const uint8_t *t, uint32_t len)
{
	struct handoff_console *c = arg;
	if (!t || memcmp(t, "SPCR", 4) != 0 || len <= SPCR_BAUD)
		return;
	uint8_t kind = t[SPCR_INTERFACE];
	uint64_t port = get_le64(t + SPCR_ADDRESS + GAS_ADDRESS);
	if ((kind != SPCR_16550 && kind != SPCR_16450 && kind != SPCR_16550_GAS) ||
	    t[SPCR_ADDRESS + GAS_SPACE] != GAS_SPACE_IO || !port || port > PORT_MAX)
		return; /* port 0: the firmware's redirection is off */
	bool isa = t[SPCR_IRQ_TYPE] & SPCR_IRQ_8259 && t[SPCR_IRQ] < 16;
	*c = (struct handoff_console){ (uint16_t)port, isa ? t[SPCR_IRQ] : 0, divisor_of(t[SPCR_BAUD]) };
}

bool serial_port_spcr(acpi_map *map, hpa_t rsdp, struct handoff_console *c)
{
	struct handoff_console found = { 0 };
	if (acpi_walk(map, rsdp, look, &found) || !found.port)
		return false;
	*c = found;
	return true;
}

int serial_port_find(const char *s, acpi_map *map, hpa_t rsdp, struct handoff_console *c)
{
	*c = (struct handoff_console){ COM1_PORT, COM1_IRQ, 1 };
	int err = s ? serial_port_parse(s, c) : 0;
	if (!s || err)
		(void)serial_port_spcr(map, rsdp, c);
	return err;
}
