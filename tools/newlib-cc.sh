#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The compiler that newlib is built with. tern's own code never touches the FPU, for the registers there belong to the
# guest; so everything is tried with -mgeneral-regs-only first. The few files that return a double (strtod, the
# floating half of printf) cannot be compiled so and get what they need: tern does not call them, and `make check` looks for
# xmm registers in the finished image. Nor does it use libm, which newlib cannot be built without: those objects are
# empty, and made in no time.
flags="-mcmodel=kernel -mno-red-zone -fno-pic -fno-pie -fno-stack-protector -ffunction-sections -fdata-sections -U__linux__ -w"
libm='' out='' deps='' last='' # automake hands down variables of its own
for arg; do
	case $last:$arg in
	-o:*) out=$arg ;;
	-MF:*) deps=$arg ;;
	*:*/libm/*.c) libm=$arg ;;
	esac
	last=$arg
done
if [ -n "$libm" ] && [ -n "$out" ]; then
	[ -z "$deps" ] || : >"$deps"
	exec gcc -c -x c /dev/null -o "$out"
fi
gcc -mgeneral-regs-only $flags "$@" 2>/dev/null || exec gcc $flags "$@"
