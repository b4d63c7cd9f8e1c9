#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Build the guests' UEFI firmware: edk2's platform for cloud-hypervisor's PC (OvmfPkg/CloudHv), a PVH ELF of 4 MiB. doc/firmware.md
# says what it wants of the machine. Takes two minutes of one CPU and 300 MB beside OUT, which it gives back. The same bytes come
# out of the same compiler at the same place; another path orders the linker's work anew.
#
#   mkfirmware.sh SOURCE OUT      SOURCE: edk2's tree; it stays as it is but for the tools that are built in it
#
# DEBUG_FW=1 in the environment: edk2's debug build, which says what it does on the serial port and has the UEFI shell.
set -euo pipefail
src=$(realpath "$1") out=$(realpath -m "$2")
work=$out.build log=$out.log

die() {
	tail -20 "$log" >&2
	echo "mkfirmware: $*; all of it is in $log" >&2
	exit 1
}

# What no guest here has or needs is left out: the network (no PXE, no boot by HTTP), TPM, Secure Boot and with it SMM. The platform
# asks for each of these but its driver of virtio-net, which it takes in whether or not there is a network. Variables are in RAM,
# and begin anew with each boot of the VM.
flags=(-D NETWORK_ENABLE=FALSE -D SECURE_BOOT_ENABLE=FALSE -D SMM_REQUIRE=FALSE -D TPM2_ENABLE=FALSE)
# How long it waits for the other CPUs to report, once: one that comes later runs in memory that is something else by then, and the
# machine resets. Its default of 50 ms is for hosts that do nothing else; of a vCPU that waits for a CPU nobody can say how long.
flags+=(--pcd gUefiCpuPkgTokenSpaceGuid.PcdCpuApInitTimeOutInMicroSeconds=500000)
kind=RELEASE
if [ "${DEBUG_FW:-0}" = 1 ]; then
	kind=DEBUG
	flags+=(-D DEBUG_ON_SERIAL_PORT=TRUE)
else
	flags+=(-D BUILD_SHELL=FALSE)
fi
tag=GCC5 # optimised over all files of a module: the smallest

rm -rf "$work"
mkdir -p "$work/Conf" "$work/OvmfPkg"
# The platform's own directory lies before the source's: PACKAGES_PATH is looked through in order.
cp -r "$src/OvmfPkg/CloudHv" "$work/OvmfPkg/"
sed -i '/VirtioNetDxe/d' "$work/OvmfPkg/CloudHv/CloudHvX64.fdf"
for f in build_rule tools_def target; do
	cp "$src/BaseTools/Conf/$f.template" "$work/Conf/$f.txt"
done
sed -i 's/-Wall -Werror/-w/' "$work/Conf/tools_def.txt" # each compiler has warnings of its own

export WORKSPACE=$work PACKAGES_PATH=$work:$src CONF_PATH=$work/Conf EDK_TOOLS_PATH=$src/BaseTools
export PYTHON_COMMAND=/usr/bin/python3 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 PATH=$src/BaseTools/BinWrappers/PosixLike:$PATH
unset MAKEFLAGS MAKELEVEL MFLAGS
# Its tools, but for those that this platform has no use for; the source of one of them is not in Debian's.
make -C "$src/BaseTools/Source/C" -j"$(nproc)" GenFfs GenFv GenFw GenSec LzmaCompress VfrCompile >"$log" 2>&1 || die "edk2's tools do not build"
cd "$work"
build -n "$(nproc)" -a X64 -t "$tag" -b "$kind" -p OvmfPkg/CloudHv/CloudHvX64.dsc "${flags[@]}" >>"$log" 2>&1 || die "the firmware does not build"
mv "$work/Build/CloudHvX64/${kind}_$tag/FV/CLOUDHV.fd" "$out"
rm -rf "$work"
