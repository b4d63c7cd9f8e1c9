/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern.conf and the files named by kernel = and initrd = of its [vm NAME] sections and file = of its [disk NAME], all
 * from the volume that BOOTX64.EFI was loaded from; names start at its root. Whatever is missing or wrong is said with
 * line and key, and the rest goes on: a VM without its file cannot start, the host can.
 */
#include "boot/boot.h"
#include "boot/image.h"
#include <string.h>

#define CONF_NAME     "tern.conf"
#define CONF_SIZE_MAX KIB(256)
#define FILE_SIZE_MAX BIT(46)
#define CHUNK         IMAGE_STEP
#define SHOW_PROGRESS MIB(8) /* files from this size on show how far they are */

struct text {
	const char *why, *what_to_do;
};

static struct text explain(int err)
{
	switch (-err) {
	case ENOENT: return (struct text){ "file not found on this volume", "copy it there or correct the name" };
	case ENODEV: return (struct text){ "this volume cannot be read", "start BOOTX64.EFI from a FAT file system" };
	case EISDIR: return (struct text){ "this is a directory", "name a file" };
	case ENODATA: return (struct text){ "the file is empty", "copy it anew" };
	case ENOMEM:
		return (struct text){ "not enough memory to read it", "use a smaller file or a host with more memory" };
	case EFBIG: return (struct text){ "the file is too large", "this cannot be what was meant" };
	case EINVAL: return (struct text){ "not a file name", "write up to 95 plain characters" };
	case EDOM:
		return (struct text){ "a disk has whole sectors of 512 bytes, and this file has not", "copy it anew" };
	case EBADMSG: return (struct text){ "damaged, or no Zstandard file", "compress it with zstd and copy it anew" };
	case EPIPE: return (struct text){ "the file has lost its end", "copy it anew" };
	case E2BIG:
		return (struct text){ "its Zstandard window is larger than 128 MiB",
				      "compress it without --long or with 27" };
	case EBUSY: return (struct text){ "a [vm] has this file as well, so it stays compressed", "name a copy of it" };
	default: return (struct text){ "read error", "check the medium" };
	}
}

static int error_of(EFI_STATUS status)
{
	if (!EFI_ERROR(status))
		return 0;
	if (status == EFI_NOT_FOUND)
		return -ENOENT;
	if (status == EFI_OUT_OF_RESOURCES)
		return -ENOMEM;
	return -EIO;
}

/* The root directory of our own volume, or NULL. Stays open until the firmware is left. */
static EFI_FILE_HANDLE open_volume(void)
{
	static EFI_GUID image_guid = EFI_LOADED_IMAGE_PROTOCOL_GUID, fs_guid = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;
	EFI_LOADED_IMAGE_PROTOCOL *image;
	EFI_SIMPLE_FILE_SYSTEM_PROTOCOL *fs;
	EFI_FILE_HANDLE root;

	if (EFI_ERROR(boot.bs->HandleProtocol(boot.image, &image_guid, (void **)&image)) || !image->DeviceHandle ||
	    EFI_ERROR(boot.bs->HandleProtocol(image->DeviceHandle, &fs_guid, (void **)&fs)) ||
	    EFI_ERROR(fs->OpenVolume(fs, &root)))
		return NULL;
	return root;
}

static int size_of(EFI_FILE_HANDLE file, uint64_t *size)
{
	static EFI_GUID info_guid = EFI_FILE_INFO_ID;
	static union {
		EFI_FILE_INFO info;
		uint8_t room[2048]; /* the name comes last */
	} info;
	UINTN info_size = sizeof(info);
	int err = error_of(file->GetInfo(file, &info_guid, &info_size, &info));
	if (err)
		return err;
	if (info.info.Attribute & EFI_FILE_DIRECTORY)
		return -EISDIR;
	*size = info.info.FileSize;
	return !*size ? -ENODATA : *size > FILE_SIZE_MAX ? -EFBIG : 0;
}

/* Open for reading and tell the size. Names are plain ASCII, with / or \ between directories. */
static int open_file(EFI_FILE_HANDLE root, const char *name, EFI_FILE_HANDLE *file, uint64_t *size)
{
	CHAR16 path[sizeof(((struct handoff_file *)0)->name)];
	UINTN i;
	int err;

	if (!root)
		return -ENODEV;
	for (i = 0; name[i] && i < ARRAY_SIZE(path) - 1; i++) {
		if (name[i] < ' ' || name[i] > '~')
			return -EINVAL;
		path[i] = name[i] == '/' ? '\\' : (CHAR16)name[i];
	}
	if (!i || name[i])
		return -EINVAL;
	path[i] = 0;
	err = error_of(root->Open(root, file, path, EFI_FILE_MODE_READ, 0));
	if (err)
		return err;
	err = size_of(*file, size);
	if (err)
		(*file)->Close(*file);
	return err;
}

/* A file that is read from its start to its end, and says how far it is if that takes its time. */
struct reader {
	EFI_FILE_HANDLE file;
	uint64_t size, done, shown, step;
};

static int reader_open(struct reader *r, EFI_FILE_HANDLE root, const char *name)
{
	int err = open_file(root, name, &r->file, &r->size);

	if (err)
		return err;
	r->done = 0;
	r->shown = r->step = r->size / (r->size < GIB(1) ? 4 : 20);
	if (r->size >= SHOW_PROGRESS)
		say_console("%s: %u MiB", name, (unsigned)(r->size / MIB(1)));
	return 0;
}

static void reader_close(struct reader *r)
{
	if (r->size >= SHOW_PROGRESS)
		say_console("\n");
	r->file->Close(r->file);
}

/* The next *n bytes, or as many as the firmware likes to give; 0 at the end alone. */
static int reader_next(void *reader, void *to, size_t *n)
{
	struct reader *r = reader;
	UINTN got = *n = MIN(*n, r->size - r->done);
	int err;

	if (!got)
		return 0;
	err = error_of(r->file->Read(r->file, &got, to));
	if (err)
		return err;
	if (!got || got > *n)
		return -EIO; /* shorter than its directory entry says, or a firmware beyond repair */
	*n = got;
	r->done += got;
	if (r->size >= SHOW_PROGRESS && r->done >= r->shown && r->done < r->size) {
		say_console(" %u%%", (unsigned)(r->done * 100 / r->size));
		r->shown += r->step;
	}
	return 0;
}

/* The whole file into pages of its own. */
static int read_file(EFI_FILE_HANDLE root, const char *name, uint64_t max, hpa_t *base, uint64_t *size)
{
	struct reader r;
	int err = reader_open(&r, root, name);

	if (err)
		return err;
	*base = r.size <= max ? boot_try_alloc(r.size) : 0;
	if (!*base)
		err = r.size <= max ? -ENOMEM : -EFBIG;
	while (!err && r.done < r.size) {
		size_t n = CHUNK;

		err = reader_next(&r, (uint8_t *)(uintptr_t)*base + r.done, &n);
	}
	reader_close(&r);
	if (!err) {
		*size = r.size;
	} else if (*base) {
		boot_free(*base, r.size);
		*base = 0;
	}
	return err;
}

static void *image_alloc(uint64_t size) { return (void *)(uintptr_t)boot_try_alloc(size); }

static void image_free(void *p, uint64_t size) { boot_free((hpa_t)(uintptr_t)p, size); }

static int read_image(EFI_FILE_HANDLE root, struct handoff_file *f)
{
	const struct image_ops ops = { image_alloc, image_free, reader_next };
	struct image im = { 0 };
	struct reader r;
	int err = reader_open(&r, root, f->name);

	if (err)
		return err;
	err = image_read(&im, &ops, &r, r.size, image_is_packed(f->name));
	reader_close(&r);
	if (err)
		return err;
	f->base = (hpa_t)(uintptr_t)im.block;
	f->size = im.size;
	f->sparse = true;
	say_console("%s: a disk of %lu KiB, %lu KiB of it in memory\n", f->name, im.size / KIB(1), im.held / KIB(1));
	return 0;
}

static struct handoff_file *find_file(const char *name)
{
	struct handoff_file *files = (struct handoff_file *)(uintptr_t)boot.h->files;

	for (uint32_t i = 0; i < boot.h->nfiles; i++)
		if (!strcmp(files[i].name, name))
			return &files[i];
	return NULL;
}

/* A disk's file that a VM boots from stays as it is: can it be a disk? */
static int look_as_disk(const struct handoff_file *f)
{
	if (f->err || f->sparse)
		return f->err;
	return image_is_packed(f->name) ? -EBUSY : f->size % IMAGE_SECTOR ? -EDOM : 0;
}

/* Read what a key of a [kind section] names; two of them may name one file. */
static void load_file(EFI_FILE_HANDLE root, const char *kind, const char *section, const char *key)
{
	const char *name = conf_get(boot.conf, kind, section, key);
	bool disk = !strcmp(kind, "disk");
	struct handoff_file *f;
	struct text text;
	int err;

	if (!name && !strcmp(key, CONF_KERNEL) && conf_get(boot.conf, kind, section, CONF_DISK))
		name = CONF_FIRMWARE;
	if (!name || !*name)
		return; /* the section's own business */
	f = find_file(name);
	if (f) {
		err = disk ? look_as_disk(f) : f->err;
	} else if (strlen(name) >= sizeof(f->name)) {
		err = -EINVAL;
	} else {
		f = &((struct handoff_file *)(uintptr_t)boot.h->files)[boot.h->nfiles++];
		strcpy(f->name, name);
		f->err = err = disk ? read_image(root, f) : read_file(root, name, UINT64_MAX, &f->base, &f->size);
	}
	if (err) {
		text = explain(err);
		say(CONF_NAME ":%d: [%s %s] %s = %s: %s; %s\n", conf_line(boot.conf, kind, section, key), kind, section,
		    key, name, text.why, text.what_to_do);
	}
}

static unsigned count_sections(const char *kind)
{
	unsigned n = 0;

	while (conf_section(boot.conf, kind, n))
		n++;
	return n;
}

void files_load(void)
{
	EFI_FILE_HANDLE root = open_volume();
	const char *name;
	unsigned most;
	int err = read_file(root, CONF_NAME, CONF_SIZE_MAX, &boot.h->config, &boot.h->config_size);

	if (err) {
		struct text text = explain(err);

		say(CONF_NAME ": %s; tern starts with defaults and without VMs\n", text.why);
		return;
	}
	boot.conf = boot_alloc(sizeof(*boot.conf));
	conf_parse(boot.conf, (const char *)(uintptr_t)boot.h->config, boot.h->config_size);
	/* Not into the log: the kernel parses the text again and says the same. */
	for (const char *p = boot.conf->problems, *eol; *p; p = eol + 1) {
		eol = memchr(p, '\n', strlen(p));
		say_console("%.*s\n", (int)(eol - p), p);
	}
	most = 4 * count_sections("vm") + count_sections("disk");
	boot.h->files = (hpa_t)(uintptr_t)boot_alloc((most + 1) * sizeof(struct handoff_file));
	for (unsigned i = 0; (name = conf_section(boot.conf, "vm", i)) != NULL; i++) {
		load_file(root, "vm", name, CONF_KERNEL);
		load_file(root, "vm", name, CONF_INITRD);
		load_file(root, "vm", name, CONF_USER_DATA);
		load_file(root, "vm", name, CONF_META_DATA);
		load_file(root, "vm", name, CONF_NETWORK_CONFIG);
	}
	for (unsigned i = 0; (name = conf_section(boot.conf, "disk", i)) != NULL; i++)
		load_file(root, "disk", name, CONF_FILE);
}
