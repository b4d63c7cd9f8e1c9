# SPDX-License-Identifier: BSD-2-Clause
#
# tern's one Makefile. `make` builds build/BOOTX64.EFI and build/esp.img; `make help` lists the rest. Third-party source is
# fetched and built by deps.mk. CC=gcc (default) or CC=clang; V=1 shows the commands; B is where it all goes.
VERSION := $(shell cat VERSION)
ifeq ($(origin CC),default)
CC := gcc
endif
Q := $(if $(V),,@)
CLANG := $(findstring clang,$(CC))
# FAILPOINTS=1: the test image, which the rig's tests boot: with failpoints (doc/handover.md) and the commands of tests/image/.
B := build$(if $(CLANG),/clang)$(if $(FAILPOINTS),/test)
L := build$(if $(CLANG),/clang)/obj
PYTHON := /usr/bin/python3
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
all: $(B)/BOOTX64.EFI $(B)/esp.img

include deps.mk

# The rooms (design: HACKING.md), each with its files. kernel/main.c alone may include from all of them.
ARCH_SRC    := $(addprefix arch/x86/,backtrace.c cpu.c descriptors.c entry.S features.c fpu.c hv.c hv_state.c \
	ioapic.c irq.c local_apic.c memory.c paging.c pt.c reset.c smp.c svm.c svm_entry.S svm_exit.c svm_state.c trampoline.S traps.c tsc_sync.c \
	vmx.c vmx_caps.c vmx_check.c vmx_entry.S vmx_exit.c vmx_insn.c vmx_state.c)
KERNEL_SRC  := $(addprefix kernel/,acpi_host.c acpi_walk.c commands.c conf.c conf_cmd.c conf_host.c conf_list.c conf_table.c conf_value.c console.c console_edit.c \
	console_serial.c console_usage.c crew.c err.c frame.c identity.c ip.c ksym.c log.c log_fold.c main.c malloc.c out.c page.c panic.c random.c runq.c sched.c \
	spinlock.c sync.c syscalls.c task.c time.c waitq.c worker.c)
CRYPTO_SRC  := $(addprefix crypto/,aead.c chacha20_poly1305.c crc32c.c gcm.c password.c)
DRIVERS_SRC := $(addprefix drivers/,e1000.c nic.c pci_bus.c pci_irq.c piix4.c uart_16550.c virtio_pci.c virtio_net.c virtio_pair.c)
NET_SRC     := $(addprefix net/,addr.c addr_if.c announce.c announce_frames.c bridge.c bridge_cmd.c bridge_guest.c bridge_rules.c fair.c hostframe.c $(addprefix iscsi/,chap.c login.c pdu.c scsi.c session.c session_do.c session_rx.c session_tx.c text.c) lacp.c learn.c \
	learn_table.c nd_filter.c neighbour.c net.c net_cmd.c net_conf.c netbuf.c netif.c netif6.c peer_cmd.c ping.c stream.c stream_loop.c sys_arch.c tcp.c tcp_connect.c tcp_listen.c tcp_resend.c tls.c tls_handshake.c \
	tls_record.c trust.c uplink.c uplink_lacp.c)
VMM_SRC     := $(addprefix vmm/,boot_file.c bus.c dev.c disk.c disk_cmd.c disk_conf.c disk_resize.c disk_unit.c disk_unit_conf.c disk_unit_pass.c gmem.c gmem_absent.c gmem_clear.c gmem_make.c gmem_track.c layer.c layer_track.c lun.c lun_command.c lun_io.c lun_owner.c lun_pass.c lun_unit.c seed.c state.c term_filter.c vm.c vm_cmd.c vm_cmd_show.c vm_config.c vm_console.c vm_file.c vm_hot.c vm_learned.c vm_life.c vm_mac.c \
	vm_memory.c vm_port.c vm_request.c vm_sections.c vm_start.c vm_text.c vm_top.c)
X86_SRC     := $(addprefix vmm/x86/,bus_lock.c compat.c cpu_check.c cpu_state.c cpuid.c events.c exit.c foreign.c guest_clock.c halt_poll.c insn.c mmio.c msr.c pv.c startup.c stun.c vcpu.c)
PC_SRC      := $(addprefix vmm/pc/,acpi_tables.c guest_image.c interrupts.c linux_loader.c loader.c machine.c pvh_loader.c smbios_tables.c)
DEV_SRC     := $(addprefix vmm/dev/,vapic_bus.c vioapic.c vlapic.c vnet.c vnet_ctrl.c vnet_queue.c vnet_rx.c vpci.c vpci_msix.c vpmtimer.c vpower.c vrng.c vrtc.c vblk.c vblk_config.c vblk_request.c vuart.c vvirtio.c vvirtio_state.c vvirtq.c vxapic.c)
MIGRATE_SRC := $(addprefix vmm/migrate/,absent.c ask.c attempts.c bandwidth.c boot_files.c datagram.c departed.c dest.c disks.c downtime.c forecast.c frames.c handover.c heard.c hot.c inbox.c lease.c leave.c migrate.c migrate_all.c migrate_cmd.c migrate_history.c \
	migration.c migration_cancel.c migration_waits.c offer_check.c page_sums.c pages.c policy.c precopy.c probe.c probe_answer.c pull.c pull_rejoin.c pulled.c reach.c records.c remote.c resting.c rules.c sections.c self.c service.c settle.c shout.c slow.c source.c sums.c switchover.c this_host.c undecided.c verify.c waits.c wire.c)
BOOT_SRC    := $(addprefix boot/,cpus.c efi_clock.c efi_main.c exit_boot.c files.c first_paging.c image.c kernel_blob.S libc.c load.c memmap.c \
	say.c serial_port.c smbios.c)
# In the test image alone.
TEST_SRC    := $(addprefix tests/image/,failpoint.c lock_order.c selftest.c spoil.c tcptest.c torture.c)
# What the loader shares with the kernel, compiled once more with the loader's flags.
BOOT_SHARED := kernel/acpi_walk.c kernel/conf.c

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wundef -Wvla -Werror
COMMON := -std=gnu17 -O2 -g -I. -MMD -MP -DTERN_VERSION='"$(VERSION)"'
# Nothing from the host's C library: newlib's headers and the compiler's own. Of newlib's printf family the integer half.
CC_INC = $(if $(CLANG),$(shell $(CC) -print-resource-dir 2>/dev/null)/include,$(shell $(CC) -print-file-name=include 2>/dev/null))
KFLAGS = $(COMMON) -nostdinc -isystem $(NEWLIB)/include -isystem $(CC_INC) -U__linux__ -mgeneral-regs-only -mno-red-zone \
	-mcmodel=kernel -fno-pic -fno-pie -fno-omit-frame-pointer -fstack-protector-strong -mstack-protector-guard=global \
	-ffunction-sections -fdata-sections -fno-strict-aliasing -fno-asynchronous-unwind-tables -fno-common \
	-Dsnprintf=sniprintf -Dvsnprintf=vsniprintf $(foreach f,FAILPOINTS LOCK_ORDER,-DTERN_$f=$(if $(FAILPOINTS),1,0))
# No -fdata-sections here: GNU-EFI's linker script leaves out .bss.*
BFLAGS = $(COMMON) -nostdinc -isystem $(NEWLIB)/include -isystem $(CC_INC) -U__linux__ -isystem $(EFI)/efi \
	-isystem $(EFI)/efi/x86_64 -Oz -ffreestanding -fpic -fshort-wchar -fno-stack-protector -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -fno-common -mno-red-zone -mno-avx -mno-sse -DGNU_EFI_USE_MS_ABI -fcf-protection=none \
	$(if $(CLANG),,-maccumulate-outgoing-args)

GEN := build/gen
O := $(B)/obj
H := $(B)/host
F := $(B)/fuzz
obj = $(patsubst %,$(O)/%.o,$(basename $1))
OWN_SRC := $(ARCH_SRC) $(KERNEL_SRC) $(CRYPTO_SRC) $(DRIVERS_SRC) $(NET_SRC) $(VMM_SRC) $(X86_SRC) $(PC_SRC) $(DEV_SRC) $(MIGRATE_SRC)
OWN_OBJ := $(call obj,$(OWN_SRC) $(if $(FAILPOINTS),$(TEST_SRC)))
LWIP_OBJ := $(LWIP_SRC:%=$(L)/lwip/%.o)
ZYDIS_OBJ := $(ZYDIS_SRC:%=$(L)/zydis/%.o)
OPENSSL_OBJ := $(OPENSSL_SRC:%=$(L)/openssl/%.o)
MBEDTLS_OBJ := $(MBEDTLS_SRC:%=$(L)/mbedtls/%.o)
XXHASH_OBJ := $(L)/xxhash.o
LIB_OBJ := $(LWIP_OBJ) $(ZYDIS_OBJ) $(OPENSSL_OBJ) $(MBEDTLS_OBJ) $(XXHASH_OBJ)
ZSTD_OBJ := $(ZSTD_SRC:%=$(O)/boot/zstd/%.o)
BOOT_OBJ := $(call obj,$(BOOT_SRC)) $(BOOT_SHARED:%.c=$(O)/boot/shared/%.o) $(ZSTD_OBJ)

$(call obj,$(NET_SRC)) $(call obj,kernel/main.c): INC := $(LWIP_INC) $(MBEDTLS_INC)
$(call obj,crypto/password.c): INC := $(MBEDTLS_INC)
# Compilers leave out of .d what a third party's header includes.
$(LWIP_OBJ) $(call obj,$(NET_SRC)): $(D)/lwip.ok net/lwipopts.h $(wildcard net/arch/*.h)
$(call obj,$(VMM_SRC) $(X86_SRC) $(PC_SRC) $(TEST_SRC)): INC := $(ZYDIS_INC) -I $(GEN)
$(call obj,vmm/boot_file.c vmm/migrate/sums.c vmm/migrate/verify.c): INC += $(ZSTD_INC)
$(call obj,kernel/main.c kernel/commands.c boot/efi_main.c): VERSION
$(call obj,arch/x86/memory.c): INC := -fno-builtin $(if $(CLANG),,-fno-tree-loop-distribute-patterns)

# The guest's DSDT, with the numbers of pc.h, compiled to a C array.
$(GEN)/dsdt.h: vmm/pc/dsdt.asl vmm/pc/pc.h | $(DEPS)
	$(Q)echo "  IASL    $<"; mkdir -p $(@D); $(CC) -E -P -I. -x c $< -o $(GEN)/dsdt.i
	$(Q)iasl -p $(GEN)/dsdt -tc $(GEN)/dsdt.i >$(GEN)/dsdt.log || { cat $(GEN)/dsdt.log; exit 1; }
	$(Q)sed 's/^unsigned char/static const unsigned char/' $(GEN)/dsdt.hex >$@
$(call obj,vmm/pc/acpi_tables.c) $(H)/vmm/pc/acpi_tables.o $(F)/vmm/pc/acpi_tables.o: $(GEN)/dsdt.h

kernel-objs: $(OWN_OBJ) $(LIB_OBJ)
# What runs for an operator or once: small rather than fast.
VMM_COLD := $(filter-out vmm/bus.c vmm/dev.c vmm/gmem.c,$(VMM_SRC))
COLD := $(filter %_cmd.c %_cmd_show.c $(addprefix kernel/,acpi_%.c commands.c conf%.c console%.c crew.c identity.c main.c out.c) $(VMM_COLD) \
	$(addprefix vmm/x86/,compat.c cpu_check.c) $(addprefix arch/x86/,features.c tsc_sync.c vmx_caps.c vmx_check.c) drivers/pci_bus.c \
	$(addprefix net/,addr_if.c announce_frames.c lacp.c net_conf.c netif6.c tcp_connect.c tcp_listen.c tcp_resend.c tls_handshake.c trust.c) \
	$(filter-out vmm/pc/interrupts.c,$(PC_SRC)) $(filter-out $(addprefix vmm/migrate/,pages.c sums.c wire.c),$(MIGRATE_SRC)),$(OWN_SRC))
COLD += $(addprefix vmm/x86/,cpu_state.c foreign.c startup.c) $(addprefix vmm/dev/,vpci.c vpower.c vvirtio_state.c vnet_ctrl.c) \
	$(addprefix arch/x86/,backtrace.c descriptors.c ioapic.c paging.c reset.c smp.c) \
	$(addprefix drivers/,e1000.c pci_irq.c piix4.c virtio_pci.c) $(addprefix kernel/,err.c ksym.c log.c panic.c random.c) \
	$(addprefix net/,addr.c announce.c neighbour.c net.c ping.c uplink_lacp.c)
# What has keys in registers leaves none there when it returns: a panic shows registers (kernel/panic.c). clang knows it since 15.
SECRET := $(CRYPTO_SRC) kernel/random.c net/trust.c net/tls.c net/tls_handshake.c net/tls_record.c
$(call obj,$(SECRET)): private SECRET_FLAGS := $(if $(CLANG),,-fzero-call-used-regs=all-gpr)
# clang's code is larger, and its image is built and measured, not run.
COLD += $(if $(CLANG),$(OWN_SRC))
$(call obj,$(COLD)): COLD_FLAGS := -Oz
$(OWN_OBJ): | $(DEPS)
$(O)/%.o: %.c
	$(Q)echo "  CC      $<"; mkdir -p $(@D); $(CC) $(KFLAGS) $(COLD_FLAGS) $(SECRET_FLAGS) $(WARN) $(INC) -c $< -o $@
$(O)/%.o: %.S
	$(Q)echo "  AS      $<"; mkdir -p $(@D); $(CC) $(KFLAGS) -D__ASSEMBLER__ -c $< -o $@
$(LWIP_OBJ): $(L)/lwip/%.o: | $(DEPS)
	$(Q)echo "  CC      lwip/$*.c"; mkdir -p $(@D); $(CC) $(KFLAGS) -Os -w $(LWIP_INC) -c $(D)/lwip/src/$*.c -o $@
$(MBEDTLS_OBJ): net/mbedtls_config.h
$(MBEDTLS_OBJ): $(L)/mbedtls/%.o: | $(DEPS)
	$(Q)echo "  CC      mbedtls/$*.c"; mkdir -p $(@D); $(CC) $(KFLAGS) -Oz -w $(MBEDTLS_INC) -I $(D)/mbedtls/library -c $(D)/mbedtls/library/$*.c -o $@
$(ZYDIS_OBJ): $(L)/zydis/%.o: | $(DEPS)
	$(Q)echo "  CC      zydis/$*.c"; mkdir -p $(@D); $(CC) $(KFLAGS) -Os -w $(ZYDIS_INC) -c $(D)/zydis/src/$*.c -o $@
$(XXHASH_OBJ): | $(DEPS)
	$(Q)echo "  CC      xxhash.c"; mkdir -p $(@D); $(CC) $(KFLAGS) -w -DXXH_NO_STDLIB -c $(D)/libzstd/lib/common/xxhash.c -o $@
$(OPENSSL_OBJ): $(L)/openssl/%.o: $(OPENSSL_GEN)/%.S
	$(Q)echo "  AS      openssl/$*.S"; mkdir -p $(@D); $(CC) -Wa,--noexecstack -c $< -o $@

# The kernel is linked twice: ksyms.py turns the symbols of the first link into the table that backtraces read.
LD_KERNEL = ld -nostdlib -static -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments --build-id=none --gc-sections \
	-T linker.ld -o $@ $(OWN_OBJ) $(LIB_OBJ)
$(B)/kernel.tmp.elf: $(OWN_OBJ) $(LIB_OBJ) linker.ld tools/ksyms.py
	$(Q)echo "  LD      $@"; $(PYTHON) tools/ksyms.py </dev/null >$(B)/nosyms.S && $(CC) -c $(B)/nosyms.S -o $(B)/nosyms.o && \
	$(LD_KERNEL) $(B)/nosyms.o $(NEWLIB_LIB)
$(B)/kernel.elf: $(B)/kernel.tmp.elf
	$(Q)echo "  LD      $@"; nm $< | $(PYTHON) tools/ksyms.py >$(B)/ksyms.S && $(CC) -c $(B)/ksyms.S -o $(B)/ksyms.o && \
	$(LD_KERNEL) $(B)/ksyms.o $(NEWLIB_LIB)
$(B)/kernel.stripped.elf: $(B)/kernel.elf
	$(Q)strip -o $@ $<

# The loader, a GNU-EFI application with the kernel inside it.
$(BOOT_OBJ): | $(DEPS)
$(O)/boot/%.o: boot/%.c
	$(Q)echo "  CC      $<"; mkdir -p $(@D); $(CC) $(BFLAGS) $(WARN) $(INC) -c $< -o $@
$(O)/boot/shared/%.o: %.c
	$(Q)echo "  CC      $< (loader)"; mkdir -p $(@D); $(CC) $(BFLAGS) $(WARN) -c $< -o $@
$(ZSTD_OBJ): $(O)/boot/zstd/%.o: | $(DEPS)
	$(Q)echo "  CC      zstd/$*.c"; mkdir -p $(@D); $(CC) $(BFLAGS) -O2 -w $(ZSTD_INC) $(ZSTD_FLAGS) -c $(D)/libzstd/lib/$*.c -o $@
$(call obj,boot/image.c boot/load.c): INC := $(ZSTD_INC)
# With a sum of its content, and the size, which the loader looks at. One thread: the same bytes from each machine with that zstd.
$(B)/kernel.zst: $(B)/kernel.stripped.elf
	$(Q)zstd -q -f --ultra -20 -T1 --check $< -o $@
$(O)/boot/kernel_blob.o: boot/kernel_blob.S $(B)/kernel.zst
	$(Q)$(CC) -DKERNEL_ZST='"$(B)/kernel.zst"' -c $< -o $@
# _entry: what the start code of newer GNU-EFI calls, to make its library ready; nothing here needs that.
$(B)/boot.so: $(BOOT_OBJ)
	$(Q)echo "  LD      $@"; ld -nostdlib -znocombreloc -znoexecstack --no-warn-rwx-segments -shared -Bsymbolic --build-id=none \
	--defsym=_entry=efi_main -T $(EFI)/elf_x86_64_efi.lds $(EFI_CRT) $(BOOT_OBJ) $(EFI_LIBS) -o $@
	$(Q)! nm -u $@ | grep . || { echo "the loader has undefined symbols"; exit 1; }
$(B)/BOOTX64.EFI: $(B)/boot.so
	$(Q)objcopy -j .text -j .sdata -j .data -j .rodata -j .dynamic -j .dynsym -j .dynstr -j .rel -j .rela -j '.rel.*' -j '.rela.*' \
	-j .reloc --strip-all --output-target=efi-app-x86_64 $< $@
	$(Q)size=$$(stat -c %s $@); echo "  EFI     $@: $$size bytes$(if $(FAILPOINTS),, of at most 1048576), the kernel $$(stat -c %s $(B)/kernel.stripped.elf) unpacked"; \
	$(if $(FAILPOINTS),:,[ $$size -le 1048576 ])

# What the guest of the rig is made of: a stock Debian kernel, for slow hosts a small one that is built here, and an initramfs for
# both, with the stock one's modules and the test programs: those with a C library in one file, and foreign.
G := build/guest
GUEST_PROGS := dirty diskbench diskcheck exitcost frames join pagecheck smp tcpserve
GUEST_CC = echo "  CC      $<"; mkdir -p $(@D); gcc -std=gnu17 -O2 $(WARN)
$(G)/linux.ok: | $(APT)/sources.list
	$(Q)echo "  FETCH   the guest's kernel"; tools/debsrc.sh kernel $(APT) $(G)/linux && cp $(G)/linux/boot/vmlinuz-* $(G)/vmlinuz && touch $@
# And that of the next release, for `make test-long`.
$(G)/next.ok: | $(APT_lwip)/sources.list
	$(Q)echo "  FETCH   the next release's kernel"; tools/debsrc.sh kernel $(APT_lwip) $(G)/next && cp $(G)/next/boot/vmlinuz-* $(G)/vmlinuz-next && touch $@
$(G)/obj/%.o: tests/guest/%.c tests/guest/load.h | $(APT)/sources.list
	$(Q)$(GUEST_CC) -c $< -o $@ && objcopy --redefine-sym main=$*_main $@
$(G)/bin/programs: tests/guest/programs.c $(GUEST_PROGS:%=$(G)/obj/%.o) | $(APT)/sources.list
	$(Q)$(GUEST_CC) -static $^ -o $@
$(G)/bin/foreign: tests/guest/foreign.c | $(APT)/sources.list
	$(Q)$(GUEST_CC) -m32 -static -ffreestanding -nostdlib -fno-pie -no-pie -fno-stack-protector $< -o $@
$(G)/initrd.img: OF := linux
$(G)/initrd.img: $(G)/linux.ok
$(G)/initrd-next.img: OF := next
$(G)/initrd-next.img: $(G)/next.ok
$(G)/initrd.img $(G)/initrd-next.img: $(G)/bin/programs $(G)/bin/foreign tests/guest/init tests/guest/mkinitrd.sh
	$(Q)echo "  INITRD  $@"; tests/guest/mkinitrd.sh $(G)/$(OF) $@ tests/guest/init $(G)/bin/foreign $(G)/bin/programs $(GUEST_PROGS)
$(G)/vmlinuz-small: tests/guest/small.config tests/guest/mksmall.sh | $(D)/linux-source.ok
	$(Q)echo "  BUILD   the small guest's kernel (3 minutes)"; tests/guest/mksmall.sh $(D)/linux-source/usr/src/linux-source-*.tar.* $< $@
# UEFI firmware for guests (doc/firmware.md), and with DEBUG_FW=1 the same that says on the serial port what it does.
FIRMWARE := $(G)/CLOUDHV$(if $(DEBUG_FW),-debug).fd
$(FIRMWARE): tools/mkfirmware.sh $(D)/edk2.ok
	$(Q)echo "  BUILD   $@ (2 minutes)"; mkdir -p $(@D); DEBUG_FW=$(DEBUG_FW) tools/mkfirmware.sh $(D)/edk2 $@
# A disk like Debian's cloud images, made of packages (as root).
$(G)/cloud.raw: tools/cloud_image.sh | $(APT)/sources.list
	$(Q)echo "  IMAGE   $@ (minutes)"; mkdir -p $(@D); tools/cloud_image.sh disk $@
guest: $(G)/initrd.img
guest-small: $(G)/vmlinuz-small
guest-next: $(G)/initrd-next.img
guest-firmware: $(FIRMWARE)
guest-cloud: $(G)/cloud.raw
# What a rig needs beside `all`: $(call payload, its kinds of hosts).
payload = $(if $(filter intel mixed,$1),guest-small)

# The guest that the torture disturbs (tests/guest/torture): a kernel of its own, in no C library's world.
TORTURE_SRC := $(addprefix tests/guest/torture/,code.S debug.c entry.S faults.c interrupts.c machine.c main.c registers.c)
TORTURE_OBJ := $(patsubst tests/guest/%,$(G)/%.o,$(basename $(TORTURE_SRC)))
TORTURE_FLAGS := -std=gnu17 -O2 -g -ffreestanding -fno-pic -mgeneral-regs-only -mno-red-zone -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fno-strict-aliasing -fcf-protection=none
$(TORTURE_OBJ): tests/guest/torture/torture.h
$(G)/torture/%.o: tests/guest/torture/%.c
	$(Q)echo "  CC      $<"; mkdir -p $(@D); gcc $(TORTURE_FLAGS) $(WARN) -c $< -o $@
$(G)/torture/%.o: tests/guest/torture/%.S
	$(Q)echo "  AS      $<"; mkdir -p $(@D); gcc -c $< -o $@
$(G)/torture.img: $(TORTURE_OBJ) tests/guest/torture/image.ld
	$(Q)echo "  LD      $@"; ld -T tests/guest/torture/image.ld -z noexecstack --no-warn-rwx-segments --build-id=none -o $(G)/torture.elf \
	$(TORTURE_OBJ) && objcopy -O binary $(G)/torture.elf $@

$(B)/esp.img: $(B)/BOOTX64.EFI tern.conf.example $(G)/initrd.img tools/mkesp.sh
	$(Q)echo "  ESP     $@"; EFI=$(B)/BOOTX64.EFI tools/mkesp.sh $@ tern.conf.example $(G)/vmlinuz $(G)/initrd.img

# Tests. Host-built ones compile the same sources for this machine, with sanitizers and the fakes beside them.
include tests/tests.mk
HOST_CC := gcc
TEST_FLAGS := $(COMMON) -DHHDM_BASE=0UL -DTERN_LOCK_ORDER=0 -O1 -fno-omit-frame-pointer -fno-strict-aliasing -Wall -Wextra -Wno-unused-parameter -Werror \
	$(ZYDIS_INC) $(MBEDTLS_INC) $(ZSTD_INC) -I $(GEN) -Dsniprintf=snprintf -Dvsniprintf=vsnprintf
SAN := -fno-sanitize-recover=undefined -fsanitize=address,undefined
UNIT_BIN := $(UNIT:%=$(H)/test_%) $(TSAN:%=$(H)/tsan/test_%)
FUZZ_BIN := $(FUZZ:%=$(F)/fuzz_%)
hostobj = $(patsubst %.c,$1/%.o,$2)
define unit_rule
$(H)/test_$1: $(call hostobj,$(H),tests/unit/test_$1.c $(UNIT_$1)) $(H)/lib.a
endef
define tsan_rule
$(H)/tsan/test_$1: $(call hostobj,$(H)/tsan,tests/unit/test_$1.c $(UNIT_$1))
endef
define fuzz_rule
$(F)/fuzz_$1: $(call hostobj,$(F),tests/fuzz/fuzz_$1.c $(FUZZ_$1)) $(H)/lib.a
endef
$(foreach t,$(UNIT),$(eval $(call unit_rule,$t)))
$(H)/tsan/%: SAN := -fsanitize=thread -Wno-tsan
$(foreach t,$(TSAN),$(eval $(call tsan_rule,$t)))
$(foreach t,$(FUZZ),$(eval $(call fuzz_rule,$t)))
# cmocka first: newer ones write __attribute__((noreturn)), which kernel/base/bits.h makes a macro.
$(H)/tests/unit/test_%.o $(H)/tsan/tests/unit/test_%.o: CMOCKA := -include setjmp.h -include stdarg.h -include stddef.h -include stdint.h -include cmocka.h
$(H)/%.o: %.c | $(DEPS)
	$(Q)echo "  HOSTCC  $<"; mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) -DTERN_FAILPOINTS=1 $(SAN) $(CMOCKA) -c $< -o $@
$(H)/tsan/%.o: %.c | $(DEPS)
	$(Q)echo "  HOSTCC  $< (tsan)"; mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) $(SAN) $(CMOCKA) -c $< -o $@
$(F)/%.o: %.c | $(DEPS)
	$(Q)echo "  FUZZCC  $<"; mkdir -p $(@D); clang $(TEST_FLAGS) -DTERN_FAILPOINTS=0 $(SAN),fuzzer-no-link -c $< -o $@
# Third-party parts of host-built tests, without sanitizers; but what foreign bytes reach is watched while it is fuzzed.
$(H)/lib/%.o: | $(D)/zydis.ok $(D)/zycore.ok
	$(Q)mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) -w -c $(D)/zydis/src/$*.c -o $@
$(H)/lib/xxhash.o: | $(D)/libzstd.ok
	$(Q)mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) -w -c $(D)/libzstd/lib/common/xxhash.c -o $@
$(H)/lib.a: $(patsubst %,$(H)/lib/%.o,$(ZYDIS_SRC) xxhash)
	$(Q)rm -f $@; ar rcs $@ $^
$(H)/mbedtls/%.o: net/mbedtls_config.h | $(D)/mbedtls.ok
	$(Q)mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) -w -I $(D)/mbedtls/library -c $(D)/mbedtls/library/$*.c -o $@
$(F)/mbedtls/%.o: net/mbedtls_config.h | $(D)/mbedtls.ok
	$(Q)mkdir -p $(@D); clang $(TEST_FLAGS) -fsanitize=address,fuzzer-no-link -w -I $(D)/mbedtls/library -c $(D)/mbedtls/library/$*.c -o $@
$(H)/mbedtls.a: $(MBEDTLS_SRC:%=$(H)/mbedtls/%.o)
$(F)/mbedtls.a: $(MBEDTLS_SRC:%=$(F)/mbedtls/%.o)
$(H)/mbedtls.a $(F)/mbedtls.a $(H)/zstd.a $(F)/zstd.a:
	$(Q)rm -f $@; ar rcs $@ $^
$(H)/zstd/%.o: | $(D)/libzstd.ok
	$(Q)mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) -w $(ZSTD_FLAGS) -c $(D)/libzstd/lib/$*.c -o $@
$(F)/zstd/%.o: | $(D)/libzstd.ok
	$(Q)mkdir -p $(@D); clang $(TEST_FLAGS) -fsanitize=address,fuzzer-no-link -w $(ZSTD_FLAGS) -c $(D)/libzstd/lib/$*.c -o $@
$(H)/zstd.a: $(ZSTD_SRC:%=$(H)/zstd/%.o)
$(F)/zstd.a: $(ZSTD_SRC:%=$(F)/zstd/%.o)
$(H)/lwip/%.o: net/lwipopts.h $(wildcard net/arch/*.h) | $(D)/lwip.ok
	$(Q)mkdir -p $(@D); $(HOST_CC) $(TEST_FLAGS) -w $(LWIP_INC) -c $(D)/lwip/src/$*.c -o $@
$(H)/lwip.a: $(LWIP_SRC:%=$(H)/lwip/%.o)
	$(Q)rm -f $@; ar rcs $@ $^
$(UNIT_BIN):
	$(Q)echo "  HOSTLD  $@"; $(HOST_CC) $(SAN) $(filter %.o,$^) $(filter %.a,$^) -lcmocka -lpthread -o $@
$(FUZZ_BIN):
	$(Q)echo "  FUZZLD  $@"; clang $(SAN),fuzzer $(filter %.o,$^) $(filter %.a,$^) -lpthread -o $@

# A bad line for the rig, a program of this machine.
build/relay: tests/rig/relay.c
	$(Q)echo "  HOSTCC  $<"; mkdir -p $(@D); gcc -std=gnu17 -O2 -g $(WARN) $< -o $@

FUZZ_SECONDS := 5
RIGS := $(if $(RIG),$(RIG),amd intel mixed)
CHECKS := format layers house headers tidy image clang
RUNTESTS := $(PYTHON) tools/runtests.py --seconds $(FUZZ_SECONDS)
unit: $(UNIT_BIN)
	$(Q)$(RUNTESTS) --unit $^
unit-%: $(H)/test_%
	$(Q)$<
fuzz: $(FUZZ_BIN)
	$(Q)$(RUNTESTS) --fuzz $^
# The model of the hand-over: its tables are made from those of the product.
MODEL_GEN := build/model/gen
$(MODEL_GEN): tests/model/gen.c vmm/migrate/rules.c vmm/migrate/rules.h kernel/base/bits.h
	$(Q)echo "  HOSTCC  $@"; mkdir -p $(@D); $(HOST_CC) -std=gnu17 -O1 -I. $(WARN) $(filter %.c,$^) -o $@
model: need
	$(Q)$(MAKE) --no-print-directory $(MODEL_GEN) && $(RUNTESTS) --model $(MODEL_GEN)
check: need
	$(Q)$(MAKE) --no-print-directory all && $(RUNTESTS) --check $(CHECKS)
check-%:
	$(Q)CC=$(CC) tools/check.sh $*
test-image: build/relay | all
	$(Q)$(MAKE) --no-print-directory FAILPOINTS=1 build/test/BOOTX64.EFI $(G)/torture.img
# The release before, for test_before.py: its sources, with what is fetched and made of third parties here (links, for its deps.mk may
# fetch something else in their place).
# It is made before the tests that use it, for beside them a compiler takes what the rigs' migrations need to converge.
BEFORE := build/before/BOOTX64.EFI
$(BEFORE): RELEASE_BEFORE | all
	$(Q)echo "  BUILD   the release before, $$(cut -d' ' -f2 $<)"; rm -rf $(@D); mkdir -p $(@D)/src/build && \
	git archive $$(cut -d' ' -f1 $<) | tar -x -C $(@D)/src && cp -al build/deps build/newlib build/efi $(@D)/src/build && \
	env -u MAKEFLAGS -u MAKELEVEL make -s -C $(@D)/src build/BOOTX64.EFI >$(@D)/build.log 2>&1 && cp $(@D)/src/build/BOOTX64.EFI $@ || \
	{ tail -20 $(@D)/build.log; exit 1; }
# The payload is made beside the first tests.
RUN_RIGS := --rig tests/rig --on $(RIGS) $(addprefix --payload ,$(call payload,$(RIGS)))
rig-test: need
	$(Q)$(MAKE) --no-print-directory all && $(MAKE) --no-print-directory test-image guest-firmware $(BEFORE) && $(RUNTESTS) $(RUN_RIGS)
test: need
	$(Q)$(MAKE) --no-print-directory all $(UNIT_BIN) $(FUZZ_BIN) $(MODEL_GEN) && $(MAKE) --no-print-directory test-image guest-firmware $(BEFORE) && \
	$(RUNTESTS) --unit $(UNIT_BIN) --fuzz $(FUZZ_BIN) --check $(CHECKS) --model $(MODEL_GEN) $(RUN_RIGS)
# What takes hours. test-fresh: README.md's commands on systems where nothing is installed yet (as root, or through sudo).
FRESH := bookworm trixie
test-fresh: need
	$(Q)tools/need.sh debootstrap && $(RUNTESTS) --fresh $(FRESH)
test-long: need
	$(Q)tools/need.sh debootstrap && $(MAKE) --no-print-directory all $(call payload,amd intel) && \
	$(MAKE) --no-print-directory test-image guest-firmware guest-cloud guest-next && LONG=1 $(RUNTESTS) --rig tests/rig --on amd intel mixed --fresh $(FRESH)
run shell bench: need
	$(Q)$(MAKE) --no-print-directory all $(call payload,$(RIG)) $(if $(filter bench,$@),$(BENCH_BIN) && $(MAKE) --no-print-directory test-image) && \
	$(PYTHON) tests/rig/$@.py
$(addprefix bench-,memcpy $(BENCH)): bench-%: $(H)/bench_%
	$(Q)$<
need:
	$(Q)tools/need.sh
house:
	$(Q)$(PYTHON) tools/house.py
format:
	clang-format -i $$(git ls-files '*.c' '*.h')
print-%:
	@echo '$($*)'
clean:
	rm -rf $(filter-out build/deps build/newlib build/newlib-obj build/efi build/guest,$(wildcard build/*))
distclean:
	rm -rf build
help:
	@echo "make            build/BOOTX64.EFI and build/esp.img"
	@echo "make run        two hosts, a guest, a migration there and back, shown and judged"
	@echo "make shell      two hosts up, and you on the console of the first"
	@echo "                both with RIG=amd (default), RIG=intel or RIG=mixed"
	@echo "make test       everything that is tested: unit, fuzz, model, check, rig-test (each is a target too)"
	@echo "make test-long  what takes hours: rig tests marked long, and make run and make test on bare systems of each Debian release"
	@echo "make bench      the figures, each with its target (STAGES=\"disk cloud\": only those); bench-memcpy, -aead, -bridge, -pt, -harvest, -flush, -pages: of one thing alone, in seconds"
	@echo "make house      the rooms: sizes, who includes whom, circles"
	@echo "make clean      all but what was fetched; distclean: that too"
.PHONY: all kernel-objs guest guest-small guest-next guest-firmware guest-cloud unit fuzz model check rig-test test test-fresh test-long test-image run shell bench $(addprefix bench-,memcpy $(BENCH)) house need format clean distclean help
-include $(shell find $(B) -path $(B)/fresh -prune -o -name '*.d' -type f -print 2>/dev/null)
