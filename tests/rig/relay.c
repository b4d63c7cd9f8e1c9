/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bad line for the rig: copies frames between two network devices and delays, limits, loses or refuses them on the
 * way. tests/rig/relay.py starts it and talks to it; the kernel's netem does not do kinds of frames, and many kernels
 * have none.
 *
 *   relay A B [SEED]       a device is tap:NAME (a tap that nobody has open) or the NAME of another Ethernet device
 *
 * Commands are lines on standard input; each is answered by one line: "ok", "error: ...", or one JSON object. The end
 * of the input is the end of the program. What follows a2b or b2a in a line is for that direction alone:
 *
 *   delay 75ms             every frame arrives that much later (us, ms, s)
 *   rate 8Mbit             bits per second (bit, kbit, Mbit, Gbit); 0bit: no limit
 *   limit 64K              bytes that may be on the way (plain, K, M); what comes on top is dropped
 *   loss 2.5%              as a generator says that begins with SEED: the same frames are lost each time
 *   corrupt 2%             so many packets of IPv4 have a bit flipped, which their checksums tell
 *   swap 2%                in so many of TCP two words of data change places, which its checksum does not tell
 *   short 2%               so many frames lose their second half
 *   twice 2%               so many frames come twice
 *   cut, join              the cable is broken, with all that is in it; it is whole again
 *   drop tcp 7077          no frames of that kind (arp, rarp, ip, ip6, icmp, tcp, udp; those two: of that port)
 *   pass                   all kinds again
 *   clear                  as it was at the start
 *   seed 7                 begin the generator anew
 *   stats                  what came of the frames so far
 *
 * Several settings may stand in one line; a line with an error changes nothing. What is on the way when settings change
 * arrives no later than if it had come then. Frames never overtake each other.
 *
 *   A ---> arrive: cut? kind? loss? damage? room? ---> [ waits for the rate | is under way until due ] ---> B
 */
#define _GNU_SOURCE /* ppoll */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX  (65536 + 64) /* the largest MTU with an Ethernet header and tags */
#define VLAN_TAG   4
#define RING       16384 /* frames on the way in one direction; a power of two */
#define LIMIT      (16U << 20)
#define LIMIT_MAX  (64U << 20)
#define KINDS      8
#define WORDS      32 /* of a command */
#define BURST      64 /* frames taken from a device before the other gets its turn */
#define NS_PER_SEC 1000000000ULL
#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))

struct kind {
	const char *name;
	uint16_t type; /* of Ethernet */
	int proto;     /* of IPv4, -1: any */
	int port;      /* 0: any */
};
static const struct kind kinds[] = {
	{ "arp", ETH_P_ARP, -1, 0 },         { "rarp", ETH_P_RARP, -1, 0 },         { "ip", ETH_P_IP, -1, 0 },
	{ "ip6", ETH_P_IPV6, -1, 0 },        { "icmp", ETH_P_IP, IPPROTO_ICMP, 0 }, { "tcp", ETH_P_IP, IPPROTO_TCP, 0 },
	{ "udp", ETH_P_IP, IPPROTO_UDP, 0 },
};

struct settings {
	uint64_t delay_ns, rate /* bit/s, 0: no limit */, limit, loss_ppm, corrupt_ppm, swap_ppm, short_ppm, twice_ppm;
	bool cut;
	struct kind drop[KINDS];
	unsigned drops;
};
static const struct settings none = { .limit = LIMIT };

struct frame {
	uint64_t ns; /* when it came; once it is under way: when it is due */
	size_t len;
	uint8_t data[];
};

struct device {
	const char *name;
	int fd;
	bool packet; /* a packet socket, not a tap */
	uint64_t missed;
};

struct line { /* one direction */
	const char *name;
	struct device *from, *to;
	struct settings s;
	uint64_t random, free_ns /* from when on the rate has room */, bytes;
	struct frame *ring[RING];
	unsigned out, next, in; /* under way: out .. next; waiting: next .. in; they run freely */
	uint64_t came, passed, cut, dropped, lost, overflow, failed; /* failed: the device did not take it */
	uint64_t damaged, repeated;                                  /* of those that came; repeated came once more */
};

static struct device devices[2];
static struct line lines[2] = { { .name = "a2b", .from = &devices[0], .to = &devices[1] },
				{ .name = "b2a", .from = &devices[1], .to = &devices[0] } };

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "relay: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static void seed(uint64_t value)
{
	for (unsigned i = 0; i < COUNT(lines); i++)
		lines[i].random = value * COUNT(lines) + i;
}

/* ---- devices ---- */

static int open_tap(const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	memcpy(r.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	if (fd < 0 || ioctl(fd, TUNSETIFF, &r))
		die("tap %s: %s", name, strerror(errno));
	return fd;
}

static int open_packet(const char *name)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct packet_mreq all = { .mr_type = PACKET_MR_PROMISC };
	int yes = 1, room = 32 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0); /* no frame of any device before bind() */

	at.sll_ifindex = all.mr_ifindex = (int)if_nametoindex(name);
	if (fd < 0 || !at.sll_ifindex)
		die("%s: %s", name, strerror(errno));
	/* Bursts while we wait for a CPU; without the right to have that much the kernel's limit must do. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &yes, sizeof(yes)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)))
		die("%s: %s", name, strerror(errno));
	return fd;
}

static void device_open(struct device *d, const char *spec)
{
	bool tap = !strncmp(spec, "tap:", 4);
	d->name = spec + (tap ? 4 : 0);
	if (!*d->name || strlen(d->name) >= IFNAMSIZ)
		die("%s: not a device's name", spec);
	d->packet = !tap;
	d->fd = tap ? open_tap(d->name) : open_packet(d->name);
}

/*
 * The kernel takes a VLAN tag out of the frame before a packet socket sees it: put it back. buf: the frame is at
 * VLAN_TAG.
 */
static bool put_tag_back(uint8_t *buf, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct tpacket_auxdata aux;
		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
			continue;
		uint16_t tag[] = { htons(aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q),
				   htons(aux.tp_vlan_tci) };
		memmove(buf, buf + VLAN_TAG, 2 * ETH_ALEN);
		memcpy(buf + 2 * ETH_ALEN, tag, VLAN_TAG);
		return true;
	}
	return false;
}

/* The next frame of a device in buf (FRAME_MAX + VLAN_TAG bytes); its length, 0: there is none now. */
static size_t receive(struct device *d, uint8_t *buf, uint8_t **frame)
{
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct iovec v = { buf + VLAN_TAG, FRAME_MAX };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = d->packet ? recvmsg(d->fd, &m, 0) : read(d->fd, v.iov_base, v.iov_len);

	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENETDOWN)
		die("%s: %s", d->name, strerror(errno));
	if (n <= 0)
		return 0;
	bool tagged = d->packet && put_tag_back(buf, &m);
	*frame = buf + (tagged ? 0 : VLAN_TAG);
	return (size_t)n + (tagged ? VLAN_TAG : 0);
}

/* Frames that the kernel dropped so far because we were late; of a tap it does not say. */
static uint64_t missed(struct device *d)
{
	struct tpacket_stats st;
	socklen_t len = sizeof(st);
	if (d->packet && !getsockopt(d->fd, SOL_PACKET, PACKET_STATISTICS, &st, &len))
		d->missed += st.tp_drops; /* since the last time */
	return d->missed;
}

/* ---- kinds of frames ---- */

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static bool is_kind(const struct kind *k, const uint8_t *p, size_t len)
{
	size_t at = 2 * ETH_ALEN;
	while (at + 2 <= len && (be16(p + at) == ETH_P_8021Q || be16(p + at) == ETH_P_8021AD))
		at += VLAN_TAG;
	if (at + 2 > len || be16(p + at) != k->type)
		return false;
	if (k->proto < 0)
		return true;
	p += at + 2;
	len -= at + 2;
	size_t header = len >= 20 ? (p[0] & 15U) * 4U : 0; /* RFC 791 3.1 */
	if (header < 20 || p[9] != k->proto)
		return false;
	if (!k->port)
		return true;
	bool first = !(be16(p + 6) & 0x1fff); /* only the first fragment has the ports */
	return first && len >= header + 4 && (be16(p + header) == k->port || be16(p + header + 2) == k->port);
}

static bool is_dropped(const struct settings *s, const uint8_t *p, size_t len)
{
	for (unsigned i = 0; i < s->drops; i++)
		if (is_kind(&s->drop[i], p, len))
			return true;
	return false;
}

/* ---- damage ---- */

/* Does it happen to this frame? */
static bool draw(struct line *l, uint64_t ppm) { return ppm && next_random(&l->random) % 1000000 < ppm; }

static bool flip(struct line *l, uint8_t *p, size_t len)
{
	static const struct kind ip = { "ip", ETH_P_IP, -1, 0 };
	if (!is_kind(&ip, p, len) || len < 60)
		return false;
	size_t total = be16(p + 16), bits = 8 * (total && total <= len - 14 ? total : 20);
	uint64_t bit = next_random(&l->random) % bits; /* of the packet: what fills the frame up is nobody's */
	p[14 + bit / 8] ^= (uint8_t)(1 << bit % 8);
	return true;
}

/* A sum does not know the order of what it adds. */
static bool swap(struct line *l, uint8_t *p, size_t len)
{
	static const struct kind tcp = { "tcp", ETH_P_IP, IPPROTO_TCP, 0 };
	if (!is_kind(&tcp, p, len) || be16(p + 12) != ETH_P_IP) /* RFC 791 3.1, RFC 9293 3.1 */
		return false;
	size_t at = 14 + (p[14] & 15U) * 4U, end = 14U + be16(p + 16);
	if (at + 20 > len || end > len)
		return false;
	at += (p[at + 12] >> 4) * 4U;
	size_t words = end > at ? (end - at) / 2 : 0, one = words ? next_random(&l->random) % words : 0;
	for (size_t i = 1; i < words; i++) {
		uint8_t *a = p + at + 2 * one, *b = p + at + 2 * ((one + i) % words), keep[2];
		if (be16(a) == be16(b))
			continue;
		memcpy(keep, a, 2);
		memcpy(a, b, 2);
		memcpy(b, keep, 2);
		return true;
	}
	return false;
}

/* ---- a direction ---- */

static void enqueue(struct line *l, const uint8_t *p, size_t len, uint64_t now)
{
	if (l->bytes + len > l->s.limit || l->in - l->out == RING) {
		l->overflow++;
	} else {
		struct frame *f = malloc(sizeof(*f) + len);
		if (!f)
			die("out of memory");
		f->ns = now;
		f->len = len;
		memcpy(f->data, p, len);
		l->ring[l->in++ % RING] = f;
		l->bytes += len;
	}
}

static void arrive(struct line *l, uint8_t *p, size_t len, uint64_t now)
{
	l->came++;
	if (l->s.cut) {
		l->cut++;
		return;
	}
	if (is_dropped(&l->s, p, len)) {
		l->dropped++;
		return;
	}
	if (draw(l, l->s.loss_ppm)) {
		l->lost++;
		return;
	}
	bool damaged = draw(l, l->s.corrupt_ppm) && flip(l, p, len);
	damaged |= draw(l, l->s.swap_ppm) && swap(l, p, len);
	if (draw(l, l->s.short_ppm) && len > 2 * ETH_HLEN) {
		len /= 2;
		damaged = true;
	}
	l->damaged += damaged;
	enqueue(l, p, len, now);
	if (draw(l, l->s.twice_ppm)) {
		l->repeated++;
		l->came++;
		enqueue(l, p, len, now);
	}
}

static struct frame *take(struct line *l)
{
	struct frame *f = l->ring[l->out++ % RING];
	l->bytes -= f->len;
	return f;
}

/* A device that takes no more, or is down, loses the frame, as a card does. */
static void deliver(struct line *l, struct frame *f)
{
	if (write(l->to->fd, f->data, f->len) == (ssize_t)f->len)
		l->passed++;
	else
		l->failed++;
	free(f);
}

/* Send what is ready by now; when to look again, UINT64_MAX: when a frame comes. */
static uint64_t advance(struct line *l, uint64_t now)
{
	for (; l->next != l->in; l->next++) {
		struct frame *f = l->ring[l->next % RING];
		uint64_t begins = f->ns > l->free_ns ? f->ns : l->free_ns;
		if (begins > now)
			break;
		l->free_ns = begins + (l->s.rate ? f->len * 8 * NS_PER_SEC / l->s.rate : 0);
		f->ns = l->free_ns + l->s.delay_ns;
	}
	while (l->out != l->next && l->ring[l->out % RING]->ns <= now)
		deliver(l, take(l));
	uint64_t due = l->out != l->next ? l->ring[l->out % RING]->ns : UINT64_MAX;
	return l->next != l->in && l->free_ns < due ? l->free_ns : due;
}

/* Settings that change now hold for what is on the way, too. */
static void apply(struct line *l, const struct settings *s, uint64_t now)
{
	l->s = *s;
	while (s->cut && l->out != l->in) {
		if (l->out == l->next)
			l->next++;
		free(take(l));
		l->cut++;
	}
	for (unsigned i = l->out; i != l->next; i++) {
		struct frame *f = l->ring[i % RING];
		if (f->ns > now + s->delay_ns)
			f->ns = now + s->delay_ns;
	}
	if (l->free_ns > now)
		l->free_ns = now;
}

/* ---- commands ---- */

struct unit {
	const char *name;
	double factor;
};
static const struct unit time_units[] = { { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { NULL, 0 } };
static const struct unit rate_units[] = {
	{ "bit", 1 }, { "kbit", 1e3 }, { "Mbit", 1e6 }, { "Gbit", 1e9 }, { NULL, 0 }
};
static const struct unit size_units[] = { { "", 1 }, { "K", 1024 }, { "M", 1 << 20 }, { NULL, 0 } };
static const struct unit loss_units[] = { { "%", 1e4 }, { NULL, 0 } };

/* A number with its unit, 0 .. max of what the factors make of it. */
static bool quantity(const char *text, const struct unit *u, double max, uint64_t *value)
{
	char *end;
	double v = text && *text >= '0' && *text <= '9' ? strtod(text, &end) : -1;
	if (v < 0)
		return false;
	while (u->name && strcmp(u->name, end))
		u++;
	if (!u->name || !(v * u->factor <= max))
		return false;
	*value = (uint64_t)(v * u->factor + 0.5);
	return true;
}

/* drop KIND [PORT]: the word after it, NULL if that is wrong. */
static char **parse_drop(struct settings *s, char **w)
{
	static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };
	const struct kind *k = kinds;
	uint64_t port = 0;

	while (k < kinds + COUNT(kinds) && (!w[1] || strcmp(k->name, w[1])))
		k++;
	if (k == kinds + COUNT(kinds) || s->drops == KINDS)
		return NULL;
	bool has_port = w[2] && *w[2] >= '0' && *w[2] <= '9';
	bool may_have = k->proto == IPPROTO_TCP || k->proto == IPPROTO_UDP;
	if (has_port && (!may_have || !quantity(w[2], plain, 65535, &port) || !port))
		return NULL;
	s->drop[s->drops] = *k;
	s->drop[s->drops++].port = (int)port;
	return w + (has_port ? 3 : 2);
}

static const struct {
	const char *name;
	const struct unit *units;
	double max;
	size_t at;
} quantities[] = {
	{ "delay", time_units, 60e9, offsetof(struct settings, delay_ns) },
	{ "rate", rate_units, 1e12, offsetof(struct settings, rate) },
	{ "limit", size_units, LIMIT_MAX, offsetof(struct settings, limit) },
	{ "loss", loss_units, 1e6, offsetof(struct settings, loss_ppm) },
	{ "corrupt", loss_units, 1e6, offsetof(struct settings, corrupt_ppm) },
	{ "swap", loss_units, 1e6, offsetof(struct settings, swap_ppm) },
	{ "short", loss_units, 1e6, offsetof(struct settings, short_ppm) },
	{ "twice", loss_units, 1e6, offsetof(struct settings, twice_ppm) },
};

/* One setting: the word after it, NULL if it is wrong. */
static char **parse_setting(struct settings *s, char **w)
{
	for (unsigned i = 0; i < COUNT(quantities); i++) {
		uint64_t *value = (void *)((char *)s + quantities[i].at);
		if (!strcmp(*w, quantities[i].name))
			return quantity(w[1], quantities[i].units, quantities[i].max, value) ? w + 2 : NULL;
	}
	if (!strcmp(*w, "drop"))
		return parse_drop(s, w);
	if (!strcmp(*w, "cut") || !strcmp(*w, "join"))
		s->cut = **w == 'c';
	else if (!strcmp(*w, "pass"))
		s->drops = 0;
	else if (!strcmp(*w, "clear"))
		*s = none;
	else
		return NULL;
	return w + 1;
}

static int direction(const char *w)
{
	for (unsigned i = 0; i < COUNT(lines); i++)
		if (!strcmp(w, lines[i].name))
			return (int)i;
	return -1;
}

/* A line of settings, all of them or none. */
static void set(char **w)
{
	struct settings s[] = { lines[0].s, lines[1].s };
	bool to[] = { true, true }, any = false;

	while (*w) {
		char **next = w + 1;
		int only = direction(*w);
		for (unsigned i = 0; i < COUNT(lines); i++) {
			if (only >= 0)
				to[i] = only == (int)i;
			else if (to[i] && !(next = parse_setting(&s[i], w)))
				break;
		}
		if (!next) {
			printf("error: %s %s: no such setting, or out of range\n", *w, w[1] ? w[1] : "");
			return;
		}
		any |= only < 0;
		w = next;
	}
	if (!any) {
		puts("error: no setting in this line");
		return;
	}
	for (unsigned i = 0; i < COUNT(lines); i++)
		apply(&lines[i], &s[i], now_ns());
	puts("ok");
}

static void show_stats(void)
{
	for (unsigned i = 0; i < COUNT(lines); i++) {
		struct line *l = &lines[i];
		const struct {
			const char *name;
			uint64_t value;
		} numbers[] = {
			{ "came", l->came },       { "passed", l->passed },       { "cut", l->cut },
			{ "dropped", l->dropped }, { "lost", l->lost },           { "overflow", l->overflow },
			{ "failed", l->failed },   { "missed", missed(l->from) }, { "frames", l->in - l->out },
			{ "bytes", l->bytes },     { "damaged", l->damaged },     { "repeated", l->repeated },
		};
		printf("%s\"%s\": {", i ? ", " : "{", l->name);
		for (unsigned n = 0; n < COUNT(numbers); n++)
			printf("%s\"%s\": %" PRIu64, n ? ", " : "", numbers[n].name, numbers[n].value);
		printf("}");
	}
	puts("}");
}

static void command(char *text)
{
	static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };
	char *words[WORDS + 3] = { NULL }; /* always with a NULL behind two words' arguments */
	uint64_t value;
	unsigned n = 0;

	for (char *w; (w = strsep(&text, " "));) {
		if (*w && n == WORDS) {
			puts("error: too many words in this line");
			return;
		}
		if (*w)
			words[n++] = w;
	}
	if (n == 1 && !strcmp(words[0], "stats")) {
		show_stats();
	} else if (n == 2 && !strcmp(words[0], "seed") && quantity(words[1], plain, 1e15, &value)) {
		seed(value);
		puts("ok");
	} else {
		set(words);
	}
}

/* What has come on standard input, line by line. */
static void listen_to(int fd)
{
	static char text[4096];
	static size_t len;
	ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0)
		exit(0);
	len += (size_t)n;
	text[len] = 0;
	for (char *end; (end = strchr(text, '\n'));) {
		*end = 0;
		command(text);
		len -= (size_t)(end + 1 - text);
		memmove(text, end + 1, len + 1);
	}
	if (len == sizeof(text) - 1)
		die("a command without an end");
}

int main(int argc, char **argv)
{
	static uint8_t buf[FRAME_MAX + VLAN_TAG];
	struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .events = POLLIN }, { .events = POLLIN } };

	if (argc < 3 || argc > 4)
		die("usage: relay A B [SEED]; A and B are tap:NAME or NAME, two Ethernet devices");
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < COUNT(devices); i++) {
		device_open(&devices[i], argv[1 + i]);
		fds[1 + i].fd = devices[i].fd;
		lines[i].s = none;
	}
	seed(argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
	puts("ok");
	for (;;) {
		uint64_t now = now_ns(), wake = UINT64_MAX;
		for (unsigned i = 0; i < COUNT(lines); i++) {
			uint64_t t = advance(&lines[i], now);
			wake = t < wake ? t : wake;
		}
		uint64_t wait = wake > now ? wake - now : 0;
		struct timespec ts = { (time_t)(wait / NS_PER_SEC), (long)(wait % NS_PER_SEC) };
		if (ppoll(fds, COUNT(fds), wake == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		for (unsigned i = 0; i < COUNT(lines); i++) {
			uint8_t *frame;
			size_t len;
			for (unsigned n = 0; n < BURST && (len = receive(lines[i].from, buf, &frame)); n++)
				arrive(&lines[i], frame, len, now_ns());
		}
		if (fds[0].revents)
			listen_to(STDIN_FILENO);
	}
}
