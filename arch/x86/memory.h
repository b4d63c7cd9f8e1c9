/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying and filling memory. memcpy, memmove and memset are C's own, declared in <string.h>: memory.c has them in
 * place of the C library's. All of it uses general registers only, and any context may call it.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Choose how large pieces are copied and filled; before it, they go word by word. Once, while one CPU runs. */
void memory_init(void);
void memory_use_rep(bool on); /* what memory_init chooses; tests try both */
/*
 * Clear n bytes, whole pages, past the caches (MOVNTI): for memory that nobody reads soon, which would throw out what
 * is in use. The stores are ordered before all that follow (SFENCE).
 */
void memory_clear_pages(void *p, size_t n);
