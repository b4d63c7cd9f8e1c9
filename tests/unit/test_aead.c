/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AES-128-GCM and ChaCha20-Poly1305 against published vectors and against slow ciphers written from the standards
 * alone, with each implementation that this machine can be brought to choose.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "crypto/aead.h"
#include "kernel/base/err.h"
#include "tests/unit/slow_aead.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t xcr0_limit = UINT64_MAX;

/* What the machine under us has: an application may ask for XCR0 if the system uses it. */
uint64_t fpu_xcr0_mask(void)
{
	uint32_t lo, hi;
	if (!(cpuid(1, 0).ecx & BIT(27)))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return ((uint64_t)hi << 32 | lo) & xcr0_limit;
}

#define AESNI  (CPUID1_ECX_AES | CPUID1_ECX_PCLMULQDQ | CPUID1_ECX_SSSE3)
#define AVX    CPUID1_ECX_AVX
#define NOT(f) ((uint32_t) ~(f))
#define ALL    UINT32_MAX
/* Features given, what each cipher is to make of them ("none": it cannot), and of what a machine must have for that. */
static const struct level {
	uint32_t leaf1_ecx, leaf7_ebx;
	struct {
		const char *name;
		uint32_t leaf1_ecx, leaf7_ebx;
	} want[AEAD_CIPHERS];
} levels[] = {
	{ ALL, ALL, { { "AES-NI and AVX", AESNI | AVX | CPUID1_ECX_MOVBE, 0 }, { "AVX2", AVX, CPUID7_EBX_AVX2 } } },
	{ NOT(CPUID1_ECX_MOVBE), 0, { { "AES-NI and SSE", AESNI, 0 }, { "SSSE3 and AVX", AVX, 0 } } },
	{ NOT(AVX), ALL, { { "AES-NI and SSE", AESNI, 0 }, { "SSSE3", CPUID1_ECX_SSSE3, 0 } } },
	/* Atom: MOVBE, no XSAVE */
	{ NOT(AVX | CPUID1_ECX_XSAVE), 0, { { "AES-NI and SSE", AESNI, 0 }, { "SSSE3", CPUID1_ECX_SSSE3, 0 } } },
	{ NOT(CPUID1_ECX_PCLMULQDQ), ALL, { { "none", 0, 0 }, { "AVX2", AVX, CPUID7_EBX_AVX2 } } },
	{ NOT(CPUID1_ECX_AES), ALL, { { "none", 0, 0 }, { "AVX2", AVX, CPUID7_EBX_AVX2 } } },
	{ 0, ALL, { { "none", 0, 0 }, { "no vectors", 0, 0 } } },
};

static bool machine_has(uint32_t leaf1_ecx, uint32_t leaf7_ebx)
{
	return !(leaf1_ecx & ~cpuid(1, 0).ecx) && !(leaf7_ebx && (leaf7_ebx & ~cpuid(7, 0).ebx)) &&
	       (!(leaf1_ecx & AVX) || (fpu_xcr0_mask() & XCR0_AVX));
}

/* Run fn with each implementation of each cipher; says what this machine has not got. */
static void each(void (*fn)(enum aead_cipher c))
{
	for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
		aead_init_limited(levels[i].leaf1_ecx, levels[i].leaf7_ebx);
		for (enum aead_cipher c = 0; c < AEAD_CIPHERS; c++) {
			const char *want = levels[i].want[c].name;
			if (machine_has(levels[i].want[c].leaf1_ecx, levels[i].want[c].leaf7_ebx)) {
				assert_string_equal(aead_implementation(c), want);
				if (aead_has(c) && fn)
					fn(c);
			} else {
				print_message("skipped: %s by %s, which this CPU has not got\n", aead_name(c), want);
			}
		}
	}
}

static size_t unhex(const char *text, uint8_t *to)
{
	size_t n = strlen(text) / 2;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sscanf(text + 2 * i, "%2hhx", &to[i]), 1);
	return n;
}

#define ZEROS16 "00000000000000000000000000000000"
static const char sunscreen[] =
	"4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64206f66"
	"66657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c64206265"
	"2069742e";
static const char drafts[] =
	"496e7465726e65742d4472616674732061726520647261667420646f63756d656e74732076616c696420666f722061206d6178696d756d"
	"206f6620736978206d6f6e74687320616e64206d617920626520757064617465642c207265706c616365642c206f72206f62736f6c6574"
	"6564206279206f7468657220646f63756d656e747320617420616e792074696d652e20497420697320696e617070726f70726961746520"
	"746f2075736520496e7465726e65742d447261667473206173207265666572656e6365206d6174657269616c206f7220746f2063697465"
	"207468656d206f74686572207468616e206173202fe2809c776f726b20696e2070726f67726573732e2fe2809d";
/* The first four: test cases 1 to 4 of "The Galois/Counter Mode of Operation" (McGrew, Viega), which NIST took over. */
static const struct vector {
	enum aead_cipher cipher;
	const char *key, *nonce, *ad, *text, *sealed, *tag;
} vectors[] = {
	{ AEAD_AES_128_GCM, ZEROS16, "000000000000000000000000", "", "", "", "58e2fccefa7e3061367f1d57a4e7455a" },
	{ AEAD_AES_128_GCM, ZEROS16, "000000000000000000000000", "", ZEROS16, "0388dace60b6a392f328c2b971b2fe78",
	  "ab6e47d42cec13bdf53a67b21257bddf" },
	{ AEAD_AES_128_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "",
	  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
	  "b16aedf5aa0de657ba637b391aafd255",
	  "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05"
	  "1ba30b396a0aac973d58e091473f5985",
	  "4d5c2af327cd64a62cf35abd2ba6fab4" },
	{ AEAD_AES_128_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
	  "feedfacedeadbeeffeedfacedeadbeefabaddad2",
	  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
	  "b16aedf5aa0de657ba637b39",
	  "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05"
	  "1ba30b396a0aac973d58e091",
	  "5bc94fbc3221a5db94fae95ae7121a47" },
	/* RFC 8439 2.8.2 and A.5 */
	{ AEAD_CHACHA20_POLY1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
	  "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7", sunscreen,
	  "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
	  "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
	  "3ff4def08e4b7a9de576d26586cec64b6116",
	  "1ae10b594f09e26a7e902ecbd0600691" },
	{ AEAD_CHACHA20_POLY1305, "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
	  "000000000102030405060708", "f33388860000000000004e91", drafts,
	  "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0"
	  "bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855"
	  "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9"
	  "9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a"
	  "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130"
	  "305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
	  "eead9d67890cbb22392336fea1851f38" },
};

static void check_vectors(enum aead_cipher c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct vector *v = &vectors[i];
		uint8_t key[32], nonce[12], ad[32], text[512], sealed[512], right[16], tag[16], out[512], open[512];
		struct aead_key k;
		if (v->cipher != c)
			continue;
		unhex(v->key, key);
		unhex(v->nonce, nonce);
		unhex(v->tag, right);
		size_t adlen = unhex(v->ad, ad), len = unhex(v->text, text);
		assert_int_equal(unhex(v->sealed, sealed), len);
		aead_key_set(&k, c, key);
		aead_seal(&k, nonce, ad, adlen, text, out, len, tag);
		assert_memory_equal(out, sealed, len);
		assert_memory_equal(tag, right, sizeof(tag));
		assert_int_equal(aead_open(&k, nonce, ad, adlen, sealed, open, len, right), 0);
		assert_memory_equal(open, text, len);
		slow_seal[c](key, nonce, ad, adlen, text, out, len, tag);
		assert_memory_equal(out, sealed, len);
		assert_memory_equal(tag, right, sizeof(tag));
	}
}

static void test_vectors(void **state)
{
	(void)state;
	each(check_vectors);
}

static void fill(void *p, size_t n)
{
	for (uint8_t *b = p; n--; b++)
		*b = (uint8_t)(rand() >> 8);
}

/* One record of random contents, at random places, both ways, with in == out and without. */
static void check_record(enum aead_cipher c, size_t adlen, size_t len)
{
	static uint8_t text[AEAD_TEXT_MAX], right[AEAD_TEXT_MAX], ad[64], room[AEAD_TEXT_MAX + 66];
	uint8_t key[AEAD_KEY_MAX], nonce[AEAD_NONCE], tag[AEAD_TAG], right_tag[AEAD_TAG];
	uint8_t *out = room + 1 + rand() % 64;
	struct aead_key k;
	fill(key, sizeof(key));
	fill(nonce, sizeof(nonce));
	fill(ad, adlen);
	fill(text, len);
	aead_key_set(&k, c, key);
	slow_seal[c](key, nonce, ad, adlen, text, right, len, right_tag);
	for (int same = 0; same < 2; same++) {
		memset(room, 0xa5, sizeof(room));
		if (same)
			memcpy(out, text, len);
		aead_seal(&k, nonce, ad, adlen, same ? out : text, out, len, tag);
		assert_memory_equal(out, right, len);
		assert_memory_equal(tag, right_tag, sizeof(tag));
		assert_int_equal(out[-1], 0xa5);
		assert_int_equal(out[len], 0xa5);
		memcpy(out, same ? right : text, len);
		assert_int_equal(aead_open(&k, nonce, ad, adlen, same ? out : right, out, len, right_tag), 0);
		assert_memory_equal(out, text, len);
		assert_int_equal(out[-1], 0xa5);
		assert_int_equal(out[len], 0xa5);
	}
}

static void check_lengths(enum aead_cipher c)
{
	static const size_t edges[] = { 16383, 16384, 16385, 16640 };
	for (size_t len = 0; len < 700; len += len < 300 ? 1 : 13)
		check_record(c, (size_t)rand() % 34, len);
	for (unsigned i = 0; i < 24; i++)
		check_record(c, (size_t)rand() % 34, (size_t)rand() % (AEAD_TEXT_MAX + 1));
	for (unsigned i = 0; i < ARRAY_SIZE(edges); i++)
		check_record(c, 5, edges[i]);
}

static void test_lengths(void **state)
{
	(void)state;
	srand(1);
	each(check_lengths);
}

/* Each bit of what decides, and some of the text: noticed, and nothing of the text given out. */
static void check_tampering(enum aead_cipher c)
{
	static const size_t lens[] = { 0, 1, 16, 100, 1000, 16384 };
	static uint8_t text[16384], sealed[16384], out[16384], zeros[16384];
	uint8_t key[AEAD_KEY_MAX], nonce[AEAD_NONCE], tag[AEAD_TAG], ad[21];
	struct aead_key k;
	fill(key, sizeof(key));
	aead_key_set(&k, c, key);
	for (unsigned n = 0; n < ARRAY_SIZE(lens); n++) {
		size_t len = lens[n];
		struct {
			uint8_t *p;
			size_t len, step;
		} parts[] = { { tag, sizeof(tag), 1 },
			      { ad, sizeof(ad), 1 },
			      { nonce, sizeof(nonce), 1 },
			      { sealed, len, len < 200 ? 1 : 479 } };
		fill(nonce, sizeof(nonce));
		fill(ad, sizeof(ad));
		fill(text, len);
		aead_seal(&k, nonce, ad, sizeof(ad), text, sealed, len, tag);
		for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
			for (size_t at = 0; at < parts[i].len; at += parts[i].step) {
				uint8_t bit = (uint8_t)(1 << rand() % 8);
				memset(out, 0xa5, len);
				parts[i].p[at] ^= bit;
				assert_int_equal(aead_open(&k, nonce, ad, sizeof(ad), sealed, out, len, tag), -EBADMSG);
				assert_memory_equal(out, zeros, len);
				parts[i].p[at] ^= bit;
			}
		assert_int_equal(aead_open(&k, nonce, ad, sizeof(ad), sealed, out, len, tag), 0);
		/* One byte of text, of associated data more or less; another key. */
		assert_int_equal(aead_open(&k, nonce, ad, sizeof(ad) - 1, sealed, out, len, tag), -EBADMSG);
		if (len)
			assert_int_equal(aead_open(&k, nonce, ad, sizeof(ad), sealed, out, len - 1, tag), -EBADMSG);
		key[rand() % 16] ^= 1;
		aead_key_set(&k, c, key);
		assert_int_equal(aead_open(&k, nonce, ad, sizeof(ad), sealed, out, len, tag), -EBADMSG);
	}
}

static void test_tampering(void **state)
{
	(void)state;
	srand(2);
	each(check_tampering);
}

static uint64_t registers[16][2];

static void registers_save(void)
{
#define STORE(n) __asm__ volatile("movdqu %%xmm" #n ", %0" : "=m"(registers[n]))
	STORE(0);
	STORE(1);
	STORE(2);
	STORE(3);
	STORE(4);
	STORE(5);
	STORE(6);
	STORE(7);
	STORE(8);
	STORE(9);
	STORE(10);
	STORE(11);
	STORE(12);
	STORE(13);
	STORE(14);
	STORE(15);
#undef STORE
}

/* Were any 16 bytes of these? Zeros are none. */
static bool was_in_registers(const uint8_t *secrets, size_t n)
{
	for (unsigned i = 0; i < 16; i++)
		for (size_t at = 0; at < n; at += 8)
			if (registers[i][0] && registers[i][0] == get_le64(secrets + at) &&
			    registers[i][1] == get_le64(secrets + at + 8))
				return true;
	return false;
}

/* Keys and what is made of them: round keys, the powers of H. */
static void check_traces(enum aead_cipher c)
{
	static uint8_t text[1024], key[AEAD_KEY_MAX];
	static const uint8_t nonce[AEAD_NONCE];
	static struct aead_key k;
	uint8_t tag[AEAD_TAG];
	fill(key, sizeof(key));
	aead_key_set(&k, c, key);
	for (size_t len = 0; len <= sizeof(text); len += 64) {
		aead_seal(&k, nonce, NULL, 0, text, text, len, tag);
		registers_save();
		if (strstr(aead_implementation(c), "AVX"))
			assert_false(was_in_registers(k.schedule, c == AEAD_AES_128_GCM ? 416 : 24));
	}
	aead_key_wipe(&k);
	for (size_t i = 0; i < sizeof(k.schedule); i++)
		assert_int_equal(k.schedule[i], 0);
}

static void test_traces(void **state)
{
	(void)state;
	srand(3);
	each(check_traces);
}

/* The faster one is preferred, and what cannot be done never is. */
static void test_choice(void **state)
{
	(void)state;
	assert_string_equal(aead_name(AEAD_AES_128_GCM), "AES-128-GCM");
	assert_string_equal(aead_name(AEAD_CHACHA20_POLY1305), "ChaCha20-Poly1305");
	each(NULL);
	assert_false(aead_has(AEAD_AES_128_GCM));
	assert_string_equal(aead_implementation(AEAD_AES_128_GCM), "none");
	assert_int_equal(aead_preferred(), AEAD_CHACHA20_POLY1305);
	/* A CPU with AVX, whose registers XCR0 does not let anybody use. */
	xcr0_limit = XCR0_X87 | XCR0_SSE;
	aead_init();
	assert_null(strstr(aead_implementation(AEAD_AES_128_GCM), "AVX"));
	assert_null(strstr(aead_implementation(AEAD_CHACHA20_POLY1305), "AVX"));
	xcr0_limit = UINT64_MAX;
	aead_init();
	assert_true(aead_has(AEAD_CHACHA20_POLY1305));
	assert_true(aead_has(aead_preferred()));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors), cmocka_unit_test(test_lengths), cmocka_unit_test(test_tampering),
		cmocka_unit_test(test_traces),  cmocka_unit_test(test_choice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
