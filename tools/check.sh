#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# One check of the sources or of the image; `make check` runs them all. Says what is wrong, exit code 1 if anything is.
#   format   clang-format would change nothing (its output differs between versions: checked with that of Debian 12 alone)
#   layers   who includes whom; every source file is in a list of the Makefile;
#            no comment names a file or a function that does not exist
#   house    no include, function, macro or field that nobody uses; no line over 120 columns, no word of C++ as a name;
#            no two files or structs of one name; public functions begin with their module's name; circles of includes are those of HACKING.md; no ladders of `if (!err)`;
#            lines a file and a function; fields under a lock whose users do not take it (locks.py says how far it sees)
#   headers  each header compiles alone
#   tidy     clang-tidy's short list
#   image    no FPU register in the kernel but in OpenSSL's assembly, text not writable, no command of tests/image/, the size
#   clang    tern's own code builds with clang as well, and links with the third parties' that the compiler in use made
set -euo pipefail
var() { make -s --no-print-directory "print-$1"; }
sources() { git ls-files -co --exclude-standard "$@" | while read -r f; do [ ! -e "$f" ] || echo "$f"; done; }

# The include path and macros of a file's room.
flags_of() {
	case $1 in
	boot/*) var BFLAGS ;;
	*) echo "$(var KFLAGS) $(var LWIP_INC) $(var ZYDIS_INC)" ;;
	esac
}

case $1 in
format)
	clang-format --version | grep -q 'version 14\.' || { echo "not clang-format 14: nothing checked"; exit 0; }
	clang-format --dry-run -Werror $(sources '*.c' '*.h')
	;;
layers)
	/usr/bin/python3 tools/layers.py
	/usr/bin/python3 tools/names.py
	diff <(sources 'arch/*.[cS]' 'kernel/*.[cS]' 'crypto/*.[cS]' 'drivers/*.[cS]' 'net/*.[cS]' 'vmm/*.[cS]' 'boot/*.[cS]' 'tests/image/*.c' | LC_ALL=C sort) \
		<(echo "$(var OWN_SRC) $(var BOOT_SRC) $(var TEST_SRC)" | tr ' ' '\n' | grep . | LC_ALL=C sort) ||
		{ echo "< on the disk, > in the Makefile"; exit 1; }
	;;
house)
	/usr/bin/python3 tools/rules.py includes unused words twins prefixes circles ladders figures
	/usr/bin/python3 tools/locks.py
	;;
headers)
	kflags=$(flags_of kernel/x.h) bflags=$(flags_of boot/x.h) bad=0
	for h in $(sources '*.h' | grep -v -e ^tests/ -e ^net/lwipopts -e ^net/arch/); do
		# One that its own source includes first has been compiled so already.
		[ ! -f "${h%.h}.c" ] || [ "$(grep -m1 '^#include' "${h%.h}.c")" != "#include \"$h\"" ] || continue
		flags=$kflags
		[ "${h#boot/}" = "$h" ] || flags=$bflags
		eval "gcc ${flags//-MMD -MP/} $(var WARN) -fsyntax-only -x c -" <<<"#include \"$h\"" || { echo "$h does not compile alone"; bad=1; }
	done
	exit $bad
	;;
tidy)
	# By name: clang-tidy of each release has more than the one before, and what is checked shall not depend on it.
	checks=-*,misc-redundant-expression
	for c in argument-comment assert-side-effect infinite-loop integer-division macro-repeated-side-effects \
		misplaced-operator-in-strlen-in-alloc misplaced-pointer-arithmetic-in-alloc multiple-statement-macro posix-return \
		redundant-branch-condition signed-char-misuse suspicious-enum-usage suspicious-memory-comparison suspicious-memset-usage \
		suspicious-missing-comma suspicious-semicolon swapped-arguments terminating-continue too-small-loop-variable \
		unused-return-value; do
		checks+=,bugprone-$c
	done
	# A string of its own is all that the version's quotes are needed for; without it the flags are plain words.
	flags=$(make -s --no-print-directory CC=clang print-KFLAGS | sed "s/-MMD -MP//; s/-DTERN_VERSION=[^ ]*/-DTERN_VERSION=__FILE__/")
	flags+=" $(var LWIP_INC) $(var ZYDIS_INC) $(var ZSTD_INC) $(var MBEDTLS_INC | sed 's/=\(.*\)/="\1"/') -I $(var GEN)" # the quotes that print- ate
	sources 'arch/*.c' 'kernel/*.c' 'crypto/*.c' 'drivers/*.c' 'net/*.c' 'vmm/*.c' 'tests/image/*.c' |
		# Stores that nobody reads: by the analyzer itself, without all that clang-tidy makes it do beside (20 times the time).
		CHECKS=$checks FLAGS=$flags xargs -P "$(nproc)" -n 4 \
			sh -c 'clang-tidy --quiet --warnings-as-errors=* --checks="$CHECKS" "$@" -- $FLAGS 2>/dev/null &&
				clang --analyze --analyzer-no-default-checks -Xclang -analyzer-checker=deadcode.DeadStores \
				-Xclang -analyzer-werror --analyzer-output text $FLAGS "$@"' sh
	;;
image)
	make --no-print-directory build/BOOTX64.EFI >/dev/null
	# Vector registers are OpenSSL's alone, whose code lies together (linker.ld).
	eval "$(nm build/kernel.elf | sed -nE 's/^(\w+) \w __openssl_(start|end)$/\2=0x\1/p')"
	objdump -d --no-show-raw-insn --stop-address="$start" build/kernel.elf >build/kernel.dis
	objdump -d --no-show-raw-insn --start-address="$end" build/kernel.elf >>build/kernel.dis
	bad=$(grep -E '^[0-9a-f]+ <|%[xyz]mm[0-9]|%st\b' build/kernel.dis |
		awk '/^[0-9a-f]+ </ { f = $2; next } { print f, $0 }' | head -5)
	[ -z "$bad" ] || { echo "FPU registers in the kernel: $bad"; exit 1; }
	readelf -lW build/kernel.elf | grep -q 'LOAD.*RWE' && { echo "a segment is writable and executable"; exit 1; }
	nm build/kernel.elf | sed -n 's/.* console_cmd_//p' | sort >build/commands
	grep -qx help build/commands || { echo "no commands found in build/kernel.elf"; exit 1; }
	bad=$(sed -n 's/^CONSOLE_CMDS\{0,1\}(\([a-z]*\),.*/\1/p' tests/image/*.c | sort | comm -12 - build/commands)
	[ -z "$bad" ] || { echo "commands of tests/image/ in the product:" $bad; exit 1; }
	[ "$(stat -c %s build/BOOTX64.EFI)" -le 1048576 ]
	;;
clang)
	make --no-print-directory CC=clang L=build/obj build/clang/BOOTX64.EFI >build/clang.log 2>&1 || { grep -A5 -e error: -e '\*\*\*' build/clang.log; exit 1; }
	;;
*)
	echo "check: unknown check $1"
	exit 1
	;;
esac
