/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern.conf and the files named by kernel = and initrd = of its [vm NAME] sections, all from the volume that
 * BOOTX64.EFI was loaded from; names start at its root. Whatever is missing or wrong is said with line and key, and the
 * rest goes on: a VM without its file cannot start, the host can.
 */
#include "boot/boot.h"
#include <string.h>

#define CONF_NAME     "tern.conf"
#define CONF_SIZE_MAX KIB(256)
#define FILE_SIZE_MAX BIT(46)
#define CHUNK         MIB(1)
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

static int read_all(EFI_FILE_HANDLE file, uint8_t *to, uint64_t size)
{
	uint64_t done = 0, quarter = size / 4;
	int err;

	while (done < size) {
		UINTN n = MIN(size - done, CHUNK);

		err = error_of(file->Read(file, &n, to + done));
		if (err)
			return err;
		if (!n || n > size - done)
			return -EIO; /* shorter than its directory entry says, or a firmware beyond repair */
		done += n;
		if (size >= SHOW_PROGRESS && done >= quarter && done < size) {
			say_console(" %u%%", (unsigned)(done * 100 / size));
			quarter += size / 4;
		}
	}
	return 0;
}

/* The whole file into pages of its own. */
static int read_file(EFI_FILE_HANDLE root, const char *name, uint64_t max, hpa_t *base, uint64_t *size)
{
	EFI_FILE_HANDLE file;
	uint64_t n;
	int err = open_file(root, name, &file, &n);

	if (err)
		return err;
	if (n > max) {
		err = -EFBIG;
		goto out;
	}
	*base = boot_try_alloc(n);
	if (!*base) {
		err = -ENOMEM;
		goto out;
	}
	if (n >= SHOW_PROGRESS)
		say_console("%s: %u MiB", name, (unsigned)(n / MIB(1)));
	err = read_all(file, (uint8_t *)(uintptr_t)*base, n);
	if (n >= SHOW_PROGRESS)
		say_console("\n");
	if (err)
		boot.bs->FreePages(*base, (n + PAGE_MASK) >> PAGE_SHIFT);
	else
		*size = n;
out:
	if (err)
		*base = 0;
	file->Close(file);
	return err;
}

static struct handoff_file *find_file(const char *name)
{
	struct handoff_file *files = (struct handoff_file *)(uintptr_t)boot.h->files;

	for (uint32_t i = 0; i < boot.h->nfiles; i++)
		if (!strcmp(files[i].name, name))
			return &files[i];
	return NULL;
}

/* Read what a key of a VM names; two VMs may name one file. */
static void load_vm_file(EFI_FILE_HANDLE root, const char *vm, const char *key)
{
	const char *name = conf_get(boot.conf, "vm", vm, key);
	struct handoff_file *f;
	struct text text;
	int err;

	if (!name || !*name)
		return; /* the VM's own business */
	f = find_file(name);
	if (f) {
		err = f->err;
	} else if (strlen(name) >= sizeof(f->name)) {
		err = -EINVAL;
	} else {
		f = &((struct handoff_file *)(uintptr_t)boot.h->files)[boot.h->nfiles++];
		strcpy(f->name, name);
		f->err = err = read_file(root, name, UINT64_MAX, &f->base, &f->size);
	}
	if (err) {
		text = explain(err);
		say(CONF_NAME ":%d: [vm %s] %s = %s: %s; %s\n", conf_line(boot.conf, "vm", vm, key), vm, key, name,
		    text.why, text.what_to_do);
	}
}

void files_load(void)
{
	EFI_FILE_HANDLE root = open_volume();
	const char *vm;
	unsigned vms = 0;
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
	while (conf_section(boot.conf, "vm", vms))
		vms++;
	boot.h->files = (hpa_t)(uintptr_t)boot_alloc((2 * vms + 1) * sizeof(struct handoff_file));
	for (unsigned i = 0; (vm = conf_section(boot.conf, "vm", i)) != NULL; i++) {
		load_vm_file(root, vm, CONF_KERNEL);
		load_vm_file(root, vm, CONF_INITRD);
	}
}
