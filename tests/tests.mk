# SPDX-License-Identifier: BSD-2-Clause
#
# The host-built tests, each with the sources under test and the fakes that it needs:
#   UNIT += NAME    tests/unit/test_NAME.c, a cmocka program    UNIT_NAME := sources
#   TSAN += NAME    that one a second time, under ThreadSanitizer: what tasks share without a lock
#   FUZZ += NAME    tests/fuzz/fuzz_NAME.c, a libFuzzer target  FUZZ_NAME := sources
UNIT :=
TSAN :=
FUZZ :=
GMEM := vmm/gmem.c vmm/gmem_absent.c vmm/gmem_clear.c vmm/gmem_make.c vmm/gmem_track.c kernel/crew.c
LAYER := vmm/layer.c vmm/layer_track.c vmm/disk.c vmm/disk_conf.c vmm/disk_unit_conf.c net/iscsi/text.c vmm/seed.c tests/unit/fake_unit.c
BOOT_FILE := vmm/boot_file.c vmm/vm_memory.c
UNIT += conf conf_keys
UNIT += seed
UNIT_seed := vmm/seed.c $(addprefix kernel/,conf.c conf_value.c conf_list.c conf_table.c ip.c) $(BOOT_FILE) $(GMEM) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT_conf := kernel/conf.c kernel/conf_value.c
UNIT_conf_keys := vmm/disk_conf.c vmm/disk_unit_conf.c net/iscsi/text.c $(addprefix kernel/,conf.c conf_value.c conf_list.c conf_table.c ip.c conf_host.c) net/net_conf.c vmm/vm_config.c vmm/vm_mac.c \
	vmm/x86/cpuid.c vmm/state.c arch/x86/features.c tests/unit/fake_kernel.c
FUZZ += conf
FUZZ_conf := $(filter-out vmm/disk_conf.c vmm/disk_unit_conf.c net/iscsi/text.c,$(UNIT_conf_keys))
UNIT += memmap tsc_sync runq
UNIT_runq := kernel/runq.c
# The scheduler is compiled into its model, on stacks that the address sanitizer does not know.
UNIT += sched
UNIT_sched :=
$(H)/tests/unit/test_sched.o: kernel/runq.c kernel/sched.c kernel/sync.c kernel/waitq.c
$(H)/tests/unit/test_sched.o: SAN := -fno-sanitize-recover=undefined -fsanitize=undefined -O2
UNIT_tsc_sync := arch/x86/tsc_sync.c
TSAN += tsc_sync
UNIT_memmap := boot/memmap.c
UNIT += state lapic ioapic
UNIT_state := net/learn.c net/learn_table.c $(GMEM) $(addprefix vmm/,vm_learned.c state.c bus.c dev.c x86/cpu_state.c x86/guest_clock.c x86/cpuid.c) $(wildcard vmm/dev/*.c) $(wildcard arch/x86/pt*.c) \
	arch/x86/features.c kernel/frame.c tests/unit/fake_kernel.c tests/unit/fake_worker.c
UNIT_lapic := vmm/state.c vmm/dev/vlapic.c vmm/dev/vapic_bus.c vmm/dev/vxapic.c tests/unit/fake_kernel.c
UNIT += lapic_ids lapic_threads
UNIT_lapic_ids := $(UNIT_lapic)
UNIT_lapic_threads := $(UNIT_lapic)
TSAN += lapic_threads
UNIT_ioapic := vmm/state.c vmm/bus.c vmm/dev.c vmm/dev/vioapic.c vmm/dev/vpower.c tests/unit/fake_kernel.c
UNIT += uart loader acpi random
UNIT_uart := vmm/state.c vmm/bus.c vmm/dev.c vmm/dev/vuart.c tests/unit/fake_kernel.c
UNIT_loader := vmm/pc/linux_loader.c vmm/pc/guest_image.c vmm/x86/startup.c $(BOOT_FILE) $(GMEM) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT += pvh
UNIT_pvh := vmm/pc/pvh_loader.c $(filter-out vmm/pc/linux_loader.c,$(UNIT_loader))
UNIT_acpi := vmm/pc/acpi_tables.c $(GMEM) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT += rtc
UNIT_rtc := vmm/state.c vmm/bus.c vmm/dev.c vmm/dev/vrtc.c tests/unit/fake_kernel.c
UNIT += pmtimer
UNIT_pmtimer := vmm/bus.c vmm/dev.c vmm/state.c vmm/dev/vpmtimer.c tests/unit/fake_kernel.c
UNIT += smbios
UNIT_smbios := vmm/pc/smbios_tables.c $(GMEM) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT_random := tests/unit/fake_kernel.c
FUZZ += loader
FUZZ_loader := $(UNIT_loader)
FUZZ += pvh
FUZZ_pvh := $(UNIT_pvh)
UNIT += vmconsole
UNIT_vmconsole := vmm/vm_console.c vmm/term_filter.c vmm/state.c vmm/bus.c vmm/dev.c vmm/dev/vuart.c tests/unit/fake_kernel.c
UNIT += term_filter
UNIT_term_filter := vmm/term_filter.c
FUZZ += term_filter
FUZZ_term_filter := vmm/term_filter.c
UNIT += pt
UNIT_pt := arch/x86/pt.c
UNIT += dirty gmem
UNIT_dirty := $(GMEM) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT_gmem := $(UNIT_dirty) vmm/vm_memory.c
UNIT += boot_file
UNIT_boot_file := $(UNIT_gmem) vmm/boot_file.c
UNIT += layer layer_full
UNIT_layer := $(UNIT_boot_file) vmm/layer.c vmm/layer_track.c
UNIT_layer_full := $(UNIT_layer)
TSAN += layer_full
$(H)/tsan/test_layer_full: $(H)/lib/xxhash.o
TSAN += gmem

DEV_TEST := vmm/bus.c vmm/dev.c $(addprefix vmm/dev/,vpci.c vpci_msix.c vvirtq.c vvirtio.c vvirtio_state.c vnet.c vnet_queue.c vnet_rx.c vnet_ctrl.c vrng.c vblk.c vblk_config.c vblk_request.c) \
	vmm/state.c $(GMEM) arch/x86/pt.c kernel/frame.c tests/unit/fake_kernel.c tests/unit/fake_worker.c tests/unit/fake_guest.c
UNIT += bus pci virtio rings worker
UNIT_bus := vmm/bus.c tests/unit/fake_kernel.c
UNIT_pci := $(DEV_TEST)
UNIT_virtio := $(DEV_TEST)
UNIT_rings := $(DEV_TEST)
UNIT += vnet_pairs
UNIT_vnet_pairs := $(DEV_TEST)
UNIT += blk blk_held blk_hurry
UNIT_blk := $(DEV_TEST)
UNIT_blk_held := $(DEV_TEST)
UNIT_blk_hurry := $(DEV_TEST)
TSAN += blk_held blk_hurry
# A disk on a unit, with sessions and a target of the test's.
LUN := $(addprefix vmm/,lun.c lun_io.c lun_owner.c lun_pass.c lun_command.c lun_unit.c) $(addprefix net/iscsi/,scsi.c session_do.c) $(addprefix tests/unit/,fake_session.c fake_target.c fake_turns.c fake_kernel.c)
UNIT += lun lun_time lun_owner lun_fight lun_pass lun_threads
UNIT_lun := $(LUN)
UNIT_lun_time := $(LUN)
UNIT_lun_owner := $(LUN)
UNIT_lun_fight := $(LUN)
UNIT_lun_pass := $(LUN)
UNIT_lun_threads := $(LUN)
TSAN += lun_threads
UNIT_worker := kernel/worker.c vmm/dev/vnet_queue.c kernel/frame.c tests/unit/fake_kernel.c
TSAN += worker bus rings
FUZZ += rings
FUZZ_rings := $(DEV_TEST)
FUZZ += blk
FUZZ_blk := $(DEV_TEST) $(BOOT_FILE) vmm/layer.c vmm/layer_track.c
VM_CONFIG := vmm/vm_config.c vmm/vm_mac.c vmm/x86/cpuid.c vmm/state.c arch/x86/features.c $(addprefix kernel/,conf.c conf_value.c conf_list.c conf_table.c ip.c)
MIGRATE := $(filter-out $(addprefix vmm/migrate/,datagram.c heard.c migrate_all.c migrate_cmd.c migrate_history.c reach.c shout.c this_host.c),$(wildcard vmm/migrate/*.c))
AEAD := $(filter-out crypto/password.c,$(CRYPTO_SRC))
TLS := net/tls.c net/tls_handshake.c net/tls_record.c net/stream.c $(AEAD) tests/unit/pipe.c tests/unit/fake_kernel.c
UNIT += tls downgrade trust
TSAN += tls
UNIT_tls := $(TLS)
UNIT_downgrade := $(TLS)
UNIT_trust := net/trust.c $(addprefix kernel/,ip.c conf_value.c conf.c console.c console_edit.c console_usage.c out.c) $(TLS)
build/host/tests/unit/test_trust.o: net/peer_cmd.c
$(H)/test_tls $(H)/tsan/test_tls $(H)/test_downgrade $(H)/test_trust: $(H)/mbedtls.a $(OPENSSL_OBJ)
FUZZ += tls handshake trust
FUZZ_trust := net/trust.c net/tls_record.c net/stream.c kernel/ip.c kernel/conf_value.c tests/unit/fake_kernel.c $(AEAD)
FUZZ_handshake := $(filter-out net/tls.c,$(TLS))
FUZZ_tls := net/tls.c net/tls_record.c net/stream.c $(AEAD) tests/unit/fake_kernel.c
$(F)/fuzz_tls $(F)/fuzz_handshake $(F)/fuzz_trust: $(F)/mbedtls.a $(OPENSSL_OBJ)
# TCP on lwIP itself, over a wire of the test's.
LISTEN := $(addprefix net/,tcp.c tcp_listen.c tcp_resend.c netbuf.c sys_arch.c)
UNIT += listen
UNIT_listen := $(LISTEN) net/stream.c kernel/ip.c kernel/conf_value.c tests/unit/fake_lwip.c tests/unit/fake_kernel.c
UNIT += say
UNIT_say :=
$(H)/tests/unit/test_say.o: boot/say.c | $(EFI_CRT)
$(H)/tests/unit/test_say.o: TEST_FLAGS += -isystem $(EFI)/efi -isystem $(EFI)/efi/x86_64 -DGNU_EFI_USE_MS_ABI -fshort-wchar
UNIT += connect
UNIT_connect := $(addprefix net/,addr.c tcp.c tcp_connect.c tcp_resend.c netbuf.c sys_arch.c) net/stream.c kernel/ip.c kernel/conf_value.c tests/unit/fake_lwip.c tests/unit/fake_kernel.c
build/host/tests/unit/test_connect.o: net/addr_if.c
UNIT += neighbour
UNIT_neighbour := $(addprefix net/,neighbour.c netbuf.c sys_arch.c) kernel/ip.c kernel/conf_value.c tests/unit/fake_lwip.c tests/unit/fake_kernel.c
UNIT += netif6
UNIT_netif6 := $(addprefix net/,netif6.c nd_filter.c neighbour.c netbuf.c sys_arch.c announce_frames.c learn.c learn_table.c) kernel/ip.c kernel/conf_value.c kernel/frame.c tests/unit/fake_lwip.c tests/unit/fake_kernel.c
$(addprefix $(H)/,$(addprefix tests/unit/,test_listen.o test_connect.o test_neighbour.o test_netif6.o fake_lwip.o) net/addr.o net/neighbour.o net/netif6.o net/tcp_connect.o $(LISTEN:.c=.o)): TEST_FLAGS += $(LWIP_INC)
$(H)/test_listen $(H)/test_connect $(H)/test_neighbour $(H)/test_netif6: $(H)/lwip.a
UNIT += sections
UNIT_sections := vmm/migrate/sections.c vmm/migrate/wire.c vmm/state.c net/stream.c tests/unit/fake_kernel.c
MIGRATE_BASE := vmm/vm_text.c $(LAYER) $(VM_CONFIG) $(BOOT_FILE) $(GMEM) arch/x86/pt.c net/stream.c net/stream_loop.c tests/unit/pipe.c tests/unit/fake_hosts.c tests/unit/fake_state.c tests/unit/fake_kept.c kernel/frame.c tests/unit/fake_kernel.c
UNIT += vm
UNIT_vm := vmm/vm.c $(LAYER) vmm/vm_text.c vmm/vm_start.c vmm/vm_request.c vmm/vm_life.c vmm/vm_sections.c vmm/vm_file.c $(BOOT_FILE) $(VM_CONFIG) $(GMEM) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT += disk disk_unit
UNIT_disk := vmm/disk_resize.c $(LAYER) $(VM_CONFIG) $(BOOT_FILE) $(GMEM) arch/x86/pt.c vmm/vm_text.c tests/unit/fake_kernel.c
UNIT_disk_unit := $(filter-out vmm/disk_resize.c,$(UNIT_disk))
UNIT += policy throttle wire migrate migrate_cmd
UNIT_migrate_cmd := vmm/migrate/waits.c $(addprefix kernel/,conf.c conf_value.c conf_list.c conf_table.c ip.c console.c console_edit.c console_usage.c out.c) tests/unit/fake_kernel.c
UNIT_migrate_cmd += vmm/migrate/downtime.c vmm/migrate/migrate_history.c
build/host/tests/unit/test_migrate_cmd.o: vmm/migrate/migrate_cmd.c
UNIT_policy := vmm/migrate/downtime.c vmm/migrate/policy.c tests/unit/fake_kernel.c
UNIT_throttle := $(UNIT_policy)
FAKE_NET := $(MIGRATE) tests/image/failpoint.c $(MIGRATE_BASE) tests/unit/fake_net.c kernel/out.c
UNIT_wire := $(FAKE_NET) tests/unit/fake_shout.c
UNIT_migrate := $(UNIT_wire)
UNIT += wire_disks migrate_disks verify resting self
UNIT_self := $(UNIT_wire)
UNIT_resting := $(UNIT_wire)
UNIT_migrate_disks := $(UNIT_wire)
UNIT_wire_disks := $(UNIT_wire)
UNIT_verify := $(UNIT_wire)
UNIT += pages
UNIT_pages := vmm/layer.c vmm/layer_track.c vmm/migrate/pages.c vmm/migrate/wire.c net/stream.c tests/unit/pipe.c tests/unit/fake_kernel.c
UNIT += pulled
UNIT_pulled := $(UNIT_wire)
UNIT += hosts shout bandwidth
UNIT_hosts := $(UNIT_wire)
UNIT += frames remote
UNIT_frames := $(UNIT_wire)
UNIT_remote := $(UNIT_wire) vmm/vm_request.c
UNIT += remote_wire page_sums
UNIT_remote_wire := $(UNIT_remote)
UNIT_page_sums := $(UNIT_remote)
UNIT_bandwidth := $(UNIT_wire)
# The fault matrix has failpoints of its own, tasks that take turns, and allocations that fail.
UNIT += faults
UNIT_faults := $(filter-out tests/image/failpoint.c,$(UNIT_wire)) vmm/vm_request.c $(addprefix tests/unit/,fake_turns.c fault_events.c fault_remote.c fault_report.c fault_rest.c fault_world.c)
$(H)/test_faults: private SAN += -Wl,--wrap=malloc -Wl,--wrap=calloc
UNIT += forecast
UNIT_forecast := $(UNIT_faults)
$(H)/test_forecast: private SAN += -Wl,--wrap=malloc -Wl,--wrap=calloc
UNIT_shout := $(FAKE_NET) $(addprefix vmm/migrate/,datagram.c heard.c reach.c shout.c)
FUZZ += hostframe
FUZZ_hostframe := $(MIGRATE) $(MIGRATE_BASE) $(addprefix vmm/migrate/,datagram.c heard.c reach.c shout.c) \
	$(addprefix net/,fair.c hostframe.c uplink.c uplink_lacp.c lacp.c)
$(F)/tests/fuzz/fuzz_hostframe.o $(F)/net/hostframe.o: TEST_FLAGS += $(LWIP_INC)
UNIT += page memory
UNIT_page := kernel/page.c arch/x86/memory.c
TSAN += page
UNIT_memory := arch/x86/memory.c
# Beside the host's own functions; loops are left as they are in the kernel.
$(H)/arch/x86/memory.o $(H)/tsan/arch/x86/memory.o: TEST_FLAGS += $(foreach f,memcpy memmove memset,-D$f=tern_$f) -fno-builtin -fno-tree-loop-distribute-patterns
UNIT += frame
UNIT_frame := kernel/frame.c
UNIT += svm_state
UNIT_svm_state := arch/x86/svm_state.c arch/x86/hv_state.c vmm/x86/cpu_state.c vmm/state.c tests/unit/fake_kernel.c
UNIT += cpu_check
UNIT_cpu_check := $(addprefix vmm/,x86/cpu_check.c x86/cpu_state.c x86/cpuid.c state.c) arch/x86/features.c tests/unit/fake_kernel.c
UNIT += vmx_state
UNIT_vmx_state := $(addprefix arch/x86/,vmx_state.c vmx_check.c svm_state.c hv_state.c features.c) \
	$(addprefix vmm/,x86/cpu_check.c x86/cpu_state.c x86/cpuid.c state.c) tests/unit/fake_kernel.c
UNIT += vmx_exit
UNIT_vmx_exit := $(addprefix arch/x86/,vmx_exit.c vmx_state.c hv_state.c) tests/unit/fake_kernel.c
# svm.c and vmx.c are compiled into it, with a CPU of the test's.
UNIT += pause
UNIT_pause := $(addprefix arch/x86/,svm_exit.c vmx_caps.c vmx_exit.c pt.c) $(UNIT_vmx_state)
$(H)/tests/unit/test_pause.o: arch/x86/svm.c arch/x86/vmx.c
UNIT += vmx_caps
UNIT_vmx_caps := arch/x86/vmx_caps.c arch/x86/pt.c tests/unit/fake_kernel.c
UNIT += cpuid cpumodel
UNIT_cpuid := vmm/x86/cpuid.c vmm/x86/compat.c vmm/state.c arch/x86/features.c arch/x86/fpu.c tests/unit/fake_kernel.c
UNIT_cpumodel := vmm/x86/cpuid.c vmm/x86/compat.c vmm/state.c arch/x86/features.c tests/unit/fake_kernel.c
UNIT += console
UNIT_console := kernel/console.c kernel/console_edit.c kernel/console_usage.c kernel/out.c tests/unit/fake_kernel.c
FUZZ += console
FUZZ_console := kernel/console.c kernel/console_edit.c kernel/console_usage.c kernel/out.c tests/unit/fake_kernel.c
FUZZ += stream
FUZZ_stream := $(MIGRATE) $(MIGRATE_BASE) tests/unit/fake_shout.c
FUZZ += answers
FUZZ_answers := $(FUZZ_stream)
UNIT += exit
UNIT_exit := $(addprefix vmm/x86/,exit.c stun.c foreign.c bus_lock.c halt_poll.c msr.c pv.c cpu_check.c insn.c mmio.c guest_clock.c cpuid.c) $(GMEM) $(addprefix vmm/,state.c bus.c dev/vlapic.c dev/vapic_bus.c dev/vxapic.c) \
	$(addprefix arch/x86/,svm.c svm_exit.c svm_state.c hv_state.c pt.c features.c) tests/unit/fake_kernel.c tests/unit/fake_vm.c
UNIT += absent foreign pv stun
UNIT_stun := vmm/x86/stun.c
UNIT_absent := $(UNIT_exit)
UNIT_pv := $(UNIT_exit)
UNIT += pv_flush
UNIT_pv_flush := $(filter-out vmm/x86/pv.c,$(UNIT_exit))
$(H)/tests/unit/test_pv_flush.o: vmm/x86/pv.c
UNIT_foreign := $(UNIT_exit)
UNIT += clock
UNIT_clock := $(GMEM) $(addprefix vmm/,x86/guest_clock.c state.c dev/vlapic.c dev/vapic_bus.c dev/vxapic.c) arch/x86/pt.c tests/unit/fake_kernel.c
UNIT += events
UNIT_events := vmm/x86/events.c vmm/x86/pv.c vmm/x86/startup.c vmm/x86/cpuid.c arch/x86/features.c $(UNIT_clock)
UNIT += mmio
UNIT_mmio := $(UNIT_exit)
FUZZ += mmio
FUZZ_mmio := $(UNIT_exit)
UNIT += mac
UNIT_mac := vmm/vm_mac.c tests/unit/fake_kernel.c
UNIT += bridge bridge_rules announce stream uplink
UNIT_uplink := net/fair.c net/uplink.c net/uplink_lacp.c net/lacp.c kernel/frame.c tests/unit/fake_kernel.c
UNIT_lacp := net/lacp.c
UNIT += lacp
FUZZ += lacp
FUZZ_lacp := net/lacp.c
LEARN := net/learn.c net/learn_table.c net/announce_frames.c
UNIT_bridge_rules := net/bridge_rules.c kernel/frame.c
BRIDGE := net/bridge.c net/bridge_guest.c net/fair.c tests/unit/fake_kernel.c $(UNIT_bridge_rules)
UNIT_bridge := $(BRIDGE) net/announce.c $(LEARN)
FUZZ += bridge
FUZZ_bridge := $(BRIDGE) $(LEARN)
UNIT_announce := $(UNIT_bridge)
UNIT += kept
UNIT_kept := vmm/vm_port.c vmm/vm_learned.c $(DEV_TEST) $(UNIT_bridge)
UNIT += learn announce_frames
UNIT_learn := $(LEARN) kernel/frame.c tests/unit/fake_kernel.c
UNIT_announce_frames := $(UNIT_learn)
UNIT += fair
UNIT_fair := net/fair.c tests/unit/fake_kernel.c
UNIT += nd_filter
UNIT_nd_filter := net/nd_filter.c
FUZZ += nd_filter
FUZZ_nd_filter := $(UNIT_nd_filter)
FUZZ += learn
FUZZ_learn := $(UNIT_learn)
UNIT_stream := net/stream.c net/stream_loop.c tests/unit/pipe.c tests/unit/fake_kernel.c

# How fast the kernel's memcpy is, beside newlib's: the objects of the kernel's image, under other names, in a program of this machine.
rename = objcopy $(foreach f,memcpy memmove memset,--redefine-sym $f=$1_$f)
$(H)/bench_memcpy: tests/bench/memcpy.c $(O)/arch/x86/memory.o $(NEWLIB_LIB)
	$(Q)echo "  HOSTLD  $@"; mkdir -p $(@D); $(call rename,tern) $(O)/arch/x86/memory.o $@_tern.o && \
	ld -r -u memcpy -u memset -o $@_newlib.o $(NEWLIB_LIB) && $(call rename,newlib) $@_newlib.o && \
	$(HOST_CC) -std=gnu17 -O2 -Wall -Wextra -Werror -I. -no-pie -z noexecstack $< $@_tern.o $@_newlib.o -o $@
# How fast records are encrypted and decrypted: the kernel's objects likewise.
$(H)/bench_aead: $(call obj,$(AEAD) net/tls_record.c) $(OPENSSL_OBJ) $(L)/mbedtls/sha256.o $(L)/mbedtls/platform_util.o
# What a frame costs in the bridge.
$(H)/bench_bridge: $(call obj,$(filter-out tests/%,$(BRIDGE)) arch/x86/memory.c)
# What dirty tracking costs a GiB: the walker built for this machine's addresses.
$(H)/bench_pt: arch/x86/pt.c
# The same by several CPUs at once.
$(H)/bench_harvest: arch/x86/pt.c
# What a flush of all vCPUs' TLBs takes who asks for it. Of vcpu.c no more than that is there.
$(H)/bench_flush: vmm/x86/vcpu.c
# What it costs to frame pages, and to digest them.
$(H)/bench_pages: vmm/migrate/pages.c vmm/migrate/wire.c vmm/migrate/sums.c $(H)/lib/xxhash.o
$(H)/bench_pages: private BENCH_FLAGS := $(ZSTD_INC) -Dsniprintf=snprintf
BENCH := aead bridge pt harvest flush pages
$(foreach b,$(filter-out harvest,$(BENCH)),$(eval $(H)/bench_$b: tests/bench/count.c))
$(addprefix $(H)/bench_,bridge pt harvest pages): tests/bench/kernel.c
$(addprefix $(H)/bench_,$(BENCH)): $(H)/bench_%: tests/bench/%.c
	$(Q)echo "  HOSTLD  $@"; mkdir -p $(@D); $(HOST_CC) -std=gnu17 -O2 -Wall -Wextra -Werror -Wno-unused-parameter -I. -DHHDM_BASE=0UL -DTERN_LOCK_ORDER=0 \
	-DTERN_FAILPOINTS=0 -ffunction-sections -Wl,--gc-sections -pthread -no-pie -z noexecstack $(BENCH_FLAGS) $^ -o $@
BENCH_BIN := $(addprefix $(H)/bench_,memcpy $(BENCH))
# The driver is compiled into its test, with the ports of a modelled chip.
UNIT += serial
UNIT_serial :=
build/host/tests/unit/test_serial.o: drivers/uart_16550.c
UNIT += nic_poll
UNIT_nic_poll := $(addprefix drivers/,nic.c virtio_pair.c virtio_pci.c) tests/unit/fake_kernel.c
UNIT += image
UNIT_image := boot/image.c
$(H)/test_image: $(H)/zstd.a
FUZZ += image
FUZZ_image := boot/image.c
$(F)/fuzz_image: $(F)/zstd.a
UNIT += spcr
UNIT_spcr := boot/serial_port.c kernel/acpi_walk.c
UNIT += terminal
UNIT_terminal := kernel/console_serial.c kernel/console.c kernel/console_edit.c kernel/console_usage.c kernel/out.c tests/unit/fake_kernel.c
build/host/tests/unit/test_terminal.o: kernel/commands.c vmm/vm_top.c
UNIT += log
UNIT_log := kernel/log_fold.c
UNIT += addr
UNIT_addr := net/addr.c tests/unit/fake_kernel.c
UNIT += aead
UNIT_aead := $(AEAD) tests/unit/fake_kernel.c
UNIT += password
UNIT_password := $(addprefix kernel/,conf.c console_edit.c conf_value.c conf_list.c conf_table.c ip.c console.c console_usage.c out.c) tests/unit/fake_kernel.c
build/host/tests/unit/test_password.o: crypto/password.c
$(H)/test_password: $(H)/mbedtls.a
$(H)/test_aead: $(OPENSSL_OBJ)
# The timers are compiled into their test, on CPUs that are threads.
UNIT += time
UNIT_time :=
TSAN += time
$(H)/tests/unit/test_time.o $(H)/tsan/tests/unit/test_time.o: kernel/time.c
# Both ways of the checksum are compiled into their test.
UNIT += crc32c
UNIT_crc32c :=
$(H)/tests/unit/test_crc32c.o: crypto/crc32c.c
UNIT += scsi iscsi_text
UNIT_scsi := net/iscsi/scsi.c
ISCSI := $(addprefix net/iscsi/,chap.c login.c pdu.c scsi.c session.c session_do.c session_rx.c session_tx.c text.c) crypto/crc32c.c net/stream.c $(addprefix kernel/,ip.c conf_value.c conf.c conf_list.c conf_table.c) tests/unit/fake_kernel.c
UNIT_iscsi_text := $(ISCSI) tests/unit/sockets.c
$(H)/test_iscsi_text: $(H)/mbedtls.a
# Sessions with a target in memory.
ISCSI_TARGET := $(ISCSI) $(addprefix tests/unit/,iscsi_client.c iscsi_target.c iscsi_target_io.c pipe.c)
UNIT += iscsi_session iscsi_faults iscsi_login iscsi_abort iscsi_time
TSAN += iscsi_session iscsi_faults iscsi_abort iscsi_time
$(foreach t,session faults login abort time,$(eval UNIT_iscsi_$t := $(ISCSI_TARGET)))
$(foreach t,session faults login abort time,$(H)/test_iscsi_$t $(H)/tsan/test_iscsi_$t): $(H)/mbedtls.a
# And with a real one, which the package tgt brings.
UNIT += tgt tgt_reservations
UNIT_tgt := $(ISCSI) tests/unit/sockets.c tests/unit/tgtd.c
UNIT_tgt_reservations := $(UNIT_tgt)
$(H)/test_tgt $(H)/test_tgt_reservations: $(H)/mbedtls.a
FUZZ += iscsi
FUZZ_iscsi := $(ISCSI)
$(F)/fuzz_iscsi: $(F)/mbedtls.a
