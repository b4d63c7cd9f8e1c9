/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A member of multicast groups, for as long as it runs.
 *
 *   join IF GROUP...    of IPv4 or IPv6
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int join(unsigned card, const char *group)
{
	struct group_req r = { .gr_interface = card };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&r.gr_group;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&r.gr_group;
	int family = strchr(group, ':') ? AF_INET6 : AF_INET, s = socket(family, SOCK_DGRAM, 0);

	r.gr_group.ss_family = (sa_family_t)family;
	if (inet_pton(family, group, family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr) != 1)
		return -1;
	return setsockopt(s, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_JOIN_GROUP, &r, sizeof(r));
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		if (join(if_nametoindex(argv[1]), argv[i])) {
			perror(argv[i]);
			return 1;
		}
	}
	for (;;)
		pause();
}
