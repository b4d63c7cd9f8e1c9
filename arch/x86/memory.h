/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying and filling memory. memcpy, memmove and memset are C's own, declared in <string.h>: memory.c has them in
 * place of the C library's. All of it uses general registers only, and any context may call it.
 */
#pragma once
#include <stdbool.h>

/* Choose how large pieces are copied and filled; before it, they go word by word. Once, while one CPU runs. */
void memory_init(void);
void memory_use_rep(bool on); /* what memory_init chooses; tests try both */
