/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console's password as tern.conf keeps it: PBKDF2 with HMAC-SHA256 (RFC 8018 5.2), so that who reads the file has
 * to try words, slowly.
 */
#pragma once
#include "kernel/conf.h"

/* Is it the word that p was made of? Takes as long as p->iterations say, at normal priority. Sleeps. */
bool password_is(const struct conf_password *p, const char *typed);
