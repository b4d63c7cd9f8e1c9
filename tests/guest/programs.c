/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's programs are one file, so that the C library is in the guest's memory once: this main() calls the one
 * that it is called as. Each program's own main() is NAME_main here (Makefile); one that takes no arguments ignores
 * these.
 */
#include <stdio.h>
#include <string.h>

int dirty_main(int argc, char **argv);
int diskbench_main(int argc, char **argv);
int diskcheck_main(int argc, char **argv);
int exitcost_main(int argc, char **argv);
int frames_main(int argc, char **argv);
int join_main(int argc, char **argv);
int pagecheck_main(int argc, char **argv);
int smp_main(int argc, char **argv);
int tcpserve_main(int argc, char **argv);

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} programs[] = {
	{ "dirty", dirty_main },         { "diskbench", diskbench_main },
	{ "diskcheck", diskcheck_main }, { "exitcost", exitcost_main },
	{ "frames", frames_main },       { "join", join_main },
	{ "pagecheck", pagecheck_main }, { "smp", smp_main },
	{ "tcpserve", tcpserve_main },
};

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL, *name = slash ? slash + 1 : argc ? argv[0] : "";

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		if (!strcmp(name, programs[i].name))
			return programs[i].main(argc, argv);
	}
	fprintf(stderr, "%s: no such program in here\n", name);
	return 127;
}
