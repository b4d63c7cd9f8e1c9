# SPDX-License-Identifier: BSD-2-Clause
#
# Third-party parts: fetched as Debian packages into build/deps (tools/debsrc.sh), never committed, built with our flags.
# THIRD-PARTY.md has their licences. Each source is pinned per suite by its upstream version and the sha256 of its
# upstream tarball; Debian's patches on top come through apt's signed index. A suite without pins builds with what it has.
SUITE := $(shell . /etc/os-release && echo $$VERSION_CODENAME)
D := build/deps
APT := $(D)/apt

PIN_bookworm_newlib  := 3.3.0 58dd9e3eaedf519360d92d84205c3deef0b3fc286685d1c562e245914ef72c66
PIN_bookworm_lwip     = $(PIN_trixie_lwip)
PIN_bookworm_libzstd  = $(PIN_trixie_libzstd)
PIN_bookworm_zydis   := 4.0.0 e990107f80c62afc1deb51de230023a1098db801b8ea6bf483e296d45459e234
PIN_bookworm_edk2     = $(PIN_trixie_edk2)
PIN_bookworm_gnu-efi := 3.0.15 931a257b9c5c1ba65ff519f18373c438a26825f2db7866b163e96d1b168f20ea

PIN_trixie_newlib  := 4.5.0.20241231 33f12605e0054965996c25c1382b3e463b0af91799001f5bb8c0630f2ec8c852
PIN_trixie_lwip    := 2.2.1+dfsg1 83729c274c499d3348e9fbbe043a3113f3fa8953e7efddc7c21c7fcbb1f2b7b1
PIN_trixie_libzstd := 1.5.7+dfsg 0c092ef267edce57ba7f3f2645c861f72eaf5e76273c6c3632869423464b90a5
PIN_trixie_zydis   := 4.1.1 dcc31180a31e7f568d79d55f8181bd961981559a5666bf6fac43a69ad8b406bf
PIN_trixie_edk2    := 2025.02 b63b6053d6d89c74d9291f9e96fde1584be99e6fb9c169ba9511505129d6b049
PIN_trixie_gnu-efi := 3.0.18 7f212c96ee66547eeefb531267b641e5473d7d8529f0bd8ccdefd33cf7413f5c

# lwIP is trixie's on bookworm too: address conflict detection came with 2.2. Its index is read into a state of its own, because
# apt takes the newest source there is. bookworm's keyring verifies it: trixie's index is signed with bookworm's key as well.
APT_lwip := $(if $(filter bookworm,$(SUITE)),$(D)/apt-trixie,$(APT))

$(APT)/sources.list: tools/debsrc.sh tools/need.sh
	$(Q)echo "  APT     $(SUITE)"; tools/need.sh && tools/debsrc.sh update $(APT)
$(D)/apt-trixie/sources.list: tools/debsrc.sh | $(APT)/sources.list
	$(Q)echo "  APT     trixie"; tools/debsrc.sh update $(@D) trixie

# mbedTLS is trixie's too: TLS 1.3 came with 3. Like Linux's it is the archive's newest, for its updates mend holes: not pinned.
APT_mbedtls := $(APT_lwip)
# Zstandard is trixie's everywhere: one source to try.
APT_libzstd := $(APT_lwip)
# And so is edk2: guests find one firmware, whatever their host was built on.
APT_edk2 := $(APT_lwip)

# fetch PKG, STAMP
fetch = echo "  FETCH   $1"; tools/debsrc.sh source $(or $(APT_$1),$(APT)) $1 $(or $(PIN_$(SUITE)_$1),- -) $(D)/$1 >$2.tmp && mv $2.tmp $2
SOURCES := newlib lwip zydis mbedtls libzstd
# What was fetched for another pin is fetched anew.
$(foreach p,$(SOURCES) edk2,$(if $(PIN_$(SUITE)_$p),$(shell grep -qsvxF '$p $(PIN_$(SUITE)_$p)' $(D)/$p.ok && rm $(D)/$p.ok)))
$(SOURCES:%=$(D)/%.ok): $(D)/%.ok: | $(APT)/sources.list
	$(Q)$(call fetch,$*,$@)
$(D)/lwip.ok $(D)/mbedtls.ok $(D)/libzstd.ok $(D)/edk2.ok: | $(APT_lwip)/sources.list
# Zydis needs only zycore's headers, which the binary package has.
$(D)/zycore.ok: | $(APT)/sources.list
	$(Q)echo "  FETCH   zycore"; tools/debsrc.sh binary $(APT) libzycore-dev $(D)/zycore && touch $@
# Linux, for the small guest (Makefile). Like the stock kernel it is the archive's newest, whose index is signed, and not pinned.
$(D)/linux-source.ok: | $(APT)/sources.list
	$(Q)echo "  FETCH   linux-source"; tools/debsrc.sh kernel-source $(APT) $(D)/linux-source && touch $@

# edk2, for the guests' firmware (Makefile), without the libraries, platforms and tests that this one has none of: half of it.
EDK2_LEFT_OUT := $(addsuffix Pkg,Arm ArmPlatform ArmVirt DynamicTables Emulator FmpDevice IntelFsp2 IntelFsp2Wrapper Prm Redfish \
	SignedCapsule StandaloneMm UefiPayload) CryptoPkg/Library/OpensslLib/openssl CryptoPkg/Library/MbedTlsLib/mbedtls
$(D)/edk2.ok: | $(APT)/sources.list
	$(Q)$(call fetch,edk2,$@) && rm -rf $(EDK2_LEFT_OUT:%=$(D)/edk2/%)

# OpenSSL: the assembly of its ciphers and nothing else. Its upstream version moves with each security update, so it is the
# archive's newest, whose index is signed, and not pinned. Its scripts are told of an assembler that knows no AVX-512, and leave
# that out.
OPENSSL_ASM := aes/asm/aesni-x86_64 modes/asm/aesni-gcm-x86_64 modes/asm/ghash-x86_64 chacha/asm/chacha-x86_64 poly1305/asm/poly1305-x86_64
OPENSSL_SRC := $(notdir $(OPENSSL_ASM))
OPENSSL_GEN := build/gen/openssl
$(D)/openssl.ok: | $(APT)/sources.list
	$(Q)$(call fetch,openssl,$@) && find $(D)/openssl -mindepth 1 -maxdepth 1 ! -name crypto ! -name LICENSE.txt -exec rm -rf {} +
$(OPENSSL_SRC:%=$(OPENSSL_GEN)/%.S): $(OPENSSL_GEN)/%.S: | $(D)/openssl.ok
	$(Q)echo "  GEN     openssl/$*.S"; mkdir -p $(@D); \
	CC="echo GNU assembler version 2.22 \#" perl $(D)/openssl/crypto/$(filter %/$*,$(OPENSSL_ASM)).pl elf $@

# newlib: the C library, as its own build system makes it, through a compiler wrapper that keeps the FPU out.
NB := $(CURDIR)/build/newlib
NEWLIB := $(NB)/x86_64-elf
NEWLIB_LIB := $(NEWLIB)/lib/libc.a
$(NEWLIB_LIB): | $(D)/newlib.ok
	$(Q)echo "  BUILD   newlib (a minute)"; rm -rf $(NB) $(NB)-obj; mkdir -p $(NB)-obj; src=$(abspath $(D))/newlib; cd $(NB)-obj && \
	export CC_FOR_TARGET="$(CURDIR)/tools/newlib-cc.sh -nostdinc -isystem $$(gcc -print-file-name=include)" MAKEFLAGS= && \
	{ $$src/configure --target=x86_64-elf --prefix=$(NB) --disable-libgloss --disable-multilib \
	--disable-newlib-supplied-syscalls --enable-newlib-io-long-long --enable-newlib-io-c99-formats --disable-newlib-wide-orient \
	--disable-nls AR_FOR_TARGET=ar RANLIB_FOR_TARGET=ranlib AS_FOR_TARGET=as LD_FOR_TARGET=ld CFLAGS_FOR_TARGET=-O2 MAKEINFO=true && \
	make -j2 all-target-newlib && make install-target-newlib; } >build.log 2>&1 || { tail -20 build.log; exit 1; }

# GNU-EFI: start-up code, relocation and the library, by its own Makefile; it runs before the kernel, so any flags will do, and
# where the mirror has no source of it, Debian's own build of it is as good.
EFI := build/efi
EFI_CRT := $(EFI)/crt0-efi-x86_64.o
EFI_LIBS := $(EFI)/libefi.a $(EFI)/libgnuefi.a
$(EFI_CRT): | $(APT)/sources.list
	$(Q)rm -rf $(EFI) $(D)/gnu-efi; mkdir -p $(EFI); $(call fetch,gnu-efi,$(D)/gnu-efi.ok) && { echo "  BUILD   gnu-efi"; \
	MAKEFLAGS= $(MAKE) -C $(D)/gnu-efi ARCH=x86_64 CC=gcc lib gnuefi >$(D)/gnu-efi.log 2>&1 && cp -r $(D)/gnu-efi/inc $(EFI)/efi && \
	cp $(D)/gnu-efi/x86_64/lib/libefi.a $(addprefix $(D)/gnu-efi/x86_64/gnuefi/,libgnuefi.a crt0-efi-x86_64.o) \
	$(D)/gnu-efi/gnuefi/elf_x86_64_efi.lds $(EFI); } || { echo "  FETCH   gnu-efi, as built by Debian"; \
	tools/debsrc.sh binary $(APT) gnu-efi $(D)/gnu-efi && cp -r $(D)/gnu-efi/usr/include/efi $(EFI) && \
	cp $(addprefix $(D)/gnu-efi/usr/lib/,libefi.a libgnuefi.a crt0-efi-x86_64.o elf_x86_64_efi.lds) $(EFI); }
	$(Q)objcopy $(addprefix --weaken-symbol=,memcpy memset memmove memcmp) $(EFI)/libefi.a # newer ones bring them; boot/libc.c has them

# lwIP: its core, both IP versions (lwipopts.h says what is in), the threaded API, Ethernet.
LWIP_SRC := $(addprefix core/,altcp altcp_alloc altcp_tcp def dns inet_chksum init ip mem memp netif pbuf raw stats sys tcp tcp_in \
	tcp_out timeouts udp) \
	$(addprefix core/ipv4/,acd autoip dhcp etharp icmp igmp ip4 ip4_addr ip4_frag) \
	$(addprefix core/ipv6/,dhcp6 ethip6 icmp6 inet6 ip6 ip6_addr ip6_frag mld6 nd6) \
	$(addprefix api/,api_lib api_msg err netbuf netifapi tcpip) netif/ethernet
LWIP_INC := -isystem $(D)/lwip/src/include -I net

# Zydis: the decoder with operands; no formatter, no encoder, no AVX-512.
ZYDIS_SRC := Decoder DecoderData Mnemonic Register SharedData Utils
ZYDIS_INC := -isystem $(D)/zydis/include -isystem $(D)/zydis/src -isystem $(D)/zycore/usr/include -DZYAN_NO_LIBC -DZYCORE_STATIC_BUILD \
	-DZYDIS_STATIC_BUILD -DZYDIS_DISABLE_FORMATTER -DZYDIS_DISABLE_ENCODER -DZYDIS_DISABLE_AVX512 -DZYDIS_DISABLE_KNC -DZYDIS_DISABLE_SEGMENT

# mbedTLS: what a handshake of TLS 1.3 with a pre-shared key needs (net/mbedtls_config.h). The linker drops what is not called.
MBEDTLS_SRC := aes bignum bignum_core chacha20 chachapoly cipher cipher_wrap constant_time ecdh ecp ecp_curves gcm hkdf md md5 pkcs5 platform_util \
	poly1305 psa_crypto psa_crypto_aead psa_crypto_cipher psa_crypto_client psa_crypto_driver_wrappers_no_static psa_crypto_ecp \
	psa_crypto_hash psa_crypto_mac psa_crypto_rsa psa_crypto_slot_management psa_util sha256 ssl_ciphersuites ssl_client ssl_msg \
	ssl_tls ssl_tls13_client ssl_tls13_generic ssl_tls13_keys ssl_tls13_server
MBEDTLS_INC := -isystem $(D)/mbedtls/include -DMBEDTLS_CONFIG_FILE='"net/mbedtls_config.h"'

# Zstandard: its decompressor, for the kernel inside the loader and for disks' images. Without its assembly, of two ways the smaller,
# and with no memory but what it is given. xxHash, which comes with it, the kernel has as well.
ZSTD_SRC := $(addprefix common/,entropy_common error_private fse_decompress xxhash zstd_common) \
	$(addprefix decompress/,huf_decompress zstd_ddict zstd_decompress zstd_decompress_block)
ZSTD_INC := -isystem $(D)/libzstd/lib
ZSTD_FLAGS := -DZSTD_LEGACY_SUPPORT=0 -DZSTD_NO_INTRINSICS -DDYNAMIC_BMI2=0 -DZSTD_DISABLE_ASM -DZSTD_STRIP_ERROR_STRINGS \
	-DHUF_FORCE_DECOMPRESS_X1 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT -DZSTD_NO_INLINE -DZSTD_TRACE=0 \
	-DZSTD_DEPS_MALLOC '-DZSTD_malloc(n)=((void *)0)' '-DZSTD_calloc(n, m)=((void *)0)' '-DZSTD_free(p)=((void)(p))' -DXXH_NO_STDLIB

DEPS := $(D)/libzstd.ok $(D)/mbedtls.ok $(NEWLIB_LIB) $(D)/lwip.ok $(D)/zydis.ok $(D)/zycore.ok $(EFI_CRT)
