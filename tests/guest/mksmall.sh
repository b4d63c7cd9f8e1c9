#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Build the small kernel of the rig's slow hosts: Debian's Linux source, configured from nothing but CONFIG. Takes 3 minutes of
# two CPUs and 1 GB beside OUT, which it gives back.
#
#   mksmall.sh SOURCE CONFIG OUT      SOURCE: linux-source-*.tar.xz
set -euo pipefail
tarball=$1 config=$(realpath "$2") out=$(realpath -m "$3")
tree=$out.src log=$out.log

die() {
	tail -20 "$log" >&2
	echo "mksmall: $*; all of it is in $log" >&2
	exit 1
}

# Of the parts that no small kernel has, only their Kconfig files, which the others refer to.
skip=(--exclude='*/Documentation/*/*' --exclude='*/arch/[a-w]*/*.[chS]' --exclude='*/arch/[a-w]*/*.dts*' --exclude='*/drivers/gpu/*.h'
	--exclude='*/drivers/net/ethernet/*.[ch]' --exclude='*/drivers/net/wireless/*.[ch]' --exclude='*/sound/*.[ch]'
	--exclude='*/tools/perf' --exclude='*/tools/testing')
for d in clk comedi crypto dma gpu hid hwmon i2c iio infiniband isdn leds md media mfd mmc mtd nvme phy pinctrl power regulator scsi \
	soc spi staging target thermal usb video; do
	skip+=(--exclude="*/drivers/$d/*.c")
done
rm -rf "$tree"
mkdir -p "$tree"
xz -T0 -dc "$tarball" | tar -x -C "$tree" --strip-components=1 "${skip[@]}"

# What a small kernel needs no more: entry code in huge pages of its own (for page table isolation; the rest of them is not zero),
# and objtool (for mitigations and unwinding), which takes time.
sed -i '/define ALIGN_ENTRY_TEXT/s/PMD_SIZE/PAGE_SIZE/' "$tree/arch/x86/kernel/vmlinux.lds.S"
sed -i '/select HAVE_OBJTOOL/d' "$tree/arch/x86/Kconfig"
# Without objtool Linux 6.12 still begins entry code with this annotation for it, and defines it for builds with objtool only.
sed -i 's/^#define ANNOTATE_INTRA_FUNCTION_CALL$/&\n.macro VALIDATE_UNRET_BEGIN\n.endm/' "$tree/include/linux/objtool.h"

# What looks through each object for exports of static functions, and takes an eighth of the time (Linux 6.1).
[ ! -e "$tree/scripts/check-local-export" ] || printf '#!/bin/sh\n' >"$tree/scripts/check-local-export"

# ACPICA as four files in place of 155, of which each spends its time on the same headers: a tenth of all. Its files differ in a
# name for their messages; three of them define what the others declare.
sed -i 's/^#define ACPI_MODULE_NAME(name) *static.*/#define ACPI_MODULE_NAME(name)\n#define _acpi_module_name ""/' "$tree/include/acpi/acoutput.h"
cat >>"$tree/drivers/acpi/acpica/Makefile" <<'END'
apart := nspredef.o utexcep.o utglobal.o
one := $(shell printf '#undef _COMPONENT\n#include "%s"\n' $(patsubst %.o,%.c,$(filter-out $(apart),$(acpi-y))) >$(src)/all.c)
acpi-y := all.o $(apart)
END

# The same for directories whose files go well together, a third of all that is left: those in the list $2 of directory $1 as one,
# but for the names behind that, which do not, or have compiler flags of their own. Order is kept: initcalls run in it. (Tried
# with Linux 6.1 and 6.12.)
together() {
	cp "$tree/$1/Makefile" "$tree/$1/Makefile.apart"
	find "$tree/$1" -maxdepth 1 -name '*.h' -exec sed -i '1i #pragma once' {} +
	cat >>"$tree/$1/Makefile" <<END
apart := $(printf '%s.o ' "${@:3}")
one := \$(filter %.o,\$(filter-out \$(apart),\$($2)))
made := \$(shell printf '#include "%s"\n' \$(one:.o=.c) >\$(src)/together.c)
CFLAGS_together.o += -w
$2 := together.o \$(filter-out \$(one),\$($2))
END
}
cat >>"$tree/lib/Makefile" <<'END'
obj-y += $(filter-out string.o,$(lib-y))
lib-y := string.o
END
together lib obj-y string sort crc32
together mm obj-y init-mm slub page-writeback page-alloc rmap slab_common vmscan
together net/core obj-y
together net/ipv4 obj-y udp tcp_input tcp_ipv4 tcp_output
together drivers/pci obj-y
together drivers/tty obj-y
together drivers/acpi acpi-y acpi_processor sleep sysfs
together drivers/base obj-y core driver dd platform
together drivers/pnp pnp-y
together fs obj-y binfmt_elf compat_binfmt_elf splice inode
together fs/proc proc-y task_mmu generic
together kernel/time obj-y timer itimer posix-cpu-timers tick-sched

kbuild=(env -u MAKEFLAGS -u KBUILD_OUTPUT KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=tern KBUILD_BUILD_HOST=rig
	KCONFIG_ALLCONFIG="$config" make -s -C "$tree" ARCH=x86 -j"$(nproc)")
"${kbuild[@]}" allnoconfig >"$log" 2>&1 || die "no configuration"
while read -r line; do
	grep -qx "$line" "$tree/.config" || die "$line of $config is not in what Kconfig made of it: renamed, or something it depends on is off"
done < <(grep ^CONFIG_ "$config")
if ! "${kbuild[@]}" bzImage >>"$log" 2>&1; then # an update of Debian's may have one name in two files of a directory
	echo "mksmall: files that were compiled together do not build ($log): each by itself" >&2
	find "$tree" -name Makefile.apart -execdir mv {} Makefile \;
	"${kbuild[@]}" bzImage >>"$log" 2>&1 || die "the kernel does not build"
fi
mv "$tree/arch/x86/boot/bzImage" "$out"
rm -rf "$tree"
