/* SPDX-License-Identifier: BSD-2-Clause */
/* The allocator behind <stdlib.h>'s malloc: any context, never sleeps, aligned to 16 bytes (to 64 from 64 bytes up). */
#pragma once

void malloc_init(void); /* after page_init */
