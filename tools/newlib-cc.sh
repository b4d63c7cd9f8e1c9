#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The compiler that newlib is built with. tern's own code never touches the FPU, for the registers there belong to the guest:
# everything is compiled with -mgeneral-regs-only. What returns a double (strtod, the floating half of printf) cannot be; tern
# calls none of that, nor libm, which newlib cannot be built without. Those objects are empty, so that a call of them does not link.
flags="-mgeneral-regs-only -mcmodel=kernel -mno-red-zone -fno-pic -fno-pie -fno-stack-protector -ffunction-sections -fdata-sections -U__linux__ -w"
libm='' out='' deps='' last='' # automake hands down variables of its own
for arg; do
	case $last:$arg in
	-o:*) out=$arg ;;
	-MF:*) deps=$arg ;;
	*:*/libm/*.c) libm=$arg ;;
	esac
	last=$arg
done
if [ -z "$libm" ] || [ -z "$out" ]; then
	errors=$(gcc $flags "$@" 2>&1) && exit
	case $errors in
	*"SSE register"* | *"x87 register"*) ;;
	*)
		echo "$errors" >&2
		exit 1
		;;
	esac
fi
[ -z "$deps" ] || : >"$deps"
exec as -o "$out" /dev/null
