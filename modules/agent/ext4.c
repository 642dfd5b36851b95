// Writes an empty ext4 file system, whatever bytes the disk has, for directories that list what is oldest first.
//
// The layout is that of the kernel's Documentation/filesystems/ext4: no journal, no checksums, one copy of the
// superblock, and no hashed directories, so that a directory is a list to whose end names are added. All numbers are
// little-endian, as this machine's are. Tables of inodes keep the bytes that they have: the kernel clears an inode when
// it makes it (fs/ext4/inode.c, ext4_fill_raw_inode), and reads none that the bitmap calls free.
#include "ext4.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"

#define BLOCK 4096u
#define BLOCKS_PER_GROUP 32768u
#define INODES_PER_GROUP 16384u
#define INODE_BYTES 256u
#define TABLE_BLOCKS (INODES_PER_GROUP * INODE_BYTES / BLOCK)
#define DESCRIPTOR_BYTES 32u
#define ROOT_INODE 2u
#define RESERVED_INODES 10u
#define SUPERBLOCK_AT 1024u

#define COMPAT_SPARSE_SUPER2 0x200u
#define INCOMPAT_FILETYPE 0x2u
#define INCOMPAT_EXTENTS 0x40u
#define RO_COMPAT_SPARSE_SUPER 0x1u
#define RO_COMPAT_LARGE_FILE 0x2u
#define RO_COMPAT_DIR_NLINK 0x20u
#define RO_COMPAT_EXTRA_ISIZE 0x40u

static void put16(uint8_t *at, uint32_t number)
{
    const uint16_t value = (uint16_t)number;
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint32_t number)
{
    memcpy(at, &number, sizeof number);
}

static int write_at(int fd, const void *data, size_t size, uint64_t offset)
{
    if (pwrite(fd, data, size, (off_t)offset) != (ssize_t)size)
        return error_set_errno("can't write a file system");
    return 0;
}

static uint32_t groups_of(uint32_t blocks)
{
    return (blocks + BLOCKS_PER_GROUP - 1) / BLOCKS_PER_GROUP;
}

// How many blocks a group has: the last one may be shorter.
static uint32_t group_size(uint32_t group, uint32_t blocks)
{
    return group + 1 < groups_of(blocks) ? BLOCKS_PER_GROUP : blocks - group * BLOCKS_PER_GROUP;
}

static uint32_t descriptor_blocks(uint32_t groups)
{
    return (groups * DESCRIPTOR_BYTES + BLOCK - 1) / BLOCK;
}

// The first block of a group that is not a copy of the superblock or of the descriptors: its block bitmap, behind which
// lie its inode bitmap and its inode table, and in the first group the root directory.
static uint32_t bitmap_block(uint32_t group, uint32_t groups)
{
    return group * BLOCKS_PER_GROUP + (group == 0 ? 1 + descriptor_blocks(groups) : 0);
}

static uint32_t root_block(uint32_t groups)
{
    return bitmap_block(0, groups) + 2 + TABLE_BLOCKS;
}

// How many blocks of a group are taken; they are its first.
static uint32_t used_blocks(uint32_t group, uint32_t groups)
{
    return group == 0 ? root_block(groups) + 1 : 2 + TABLE_BLOCKS;
}

static int write_superblock(int fd, uint32_t blocks)
{
    uint8_t block[BLOCK] = {0};
    uint8_t *super = block + SUPERBLOCK_AT;
    uint32_t groups = groups_of(blocks);
    put32(super + 0x00, groups * INODES_PER_GROUP);
    put32(super + 0x04, blocks);
    put32(super + 0x0c, blocks - used_blocks(0, groups) - (groups - 1) * used_blocks(1, groups));
    put32(super + 0x10, groups * INODES_PER_GROUP - RESERVED_INODES);
    put32(super + 0x18, 2);  // blocks of 1024 << 2 bytes
    put32(super + 0x1c, 2);
    put32(super + 0x20, BLOCKS_PER_GROUP);
    put32(super + 0x24, BLOCKS_PER_GROUP);
    put32(super + 0x28, INODES_PER_GROUP);
    put16(super + 0x36, 0xffff);  // mounted as often as one likes
    put16(super + 0x38, 0xef53);
    put16(super + 0x3a, 1);  // clean
    put16(super + 0x3c, 2);  // an error makes it read-only
    put32(super + 0x4c, 1);
    put32(super + 0x54, RESERVED_INODES + 1);
    put16(super + 0x58, INODE_BYTES);
    put32(super + 0x5c, COMPAT_SPARSE_SUPER2);
    put32(super + 0x60, INCOMPAT_FILETYPE | INCOMPAT_EXTENTS);
    put32(super + 0x64, RO_COMPAT_SPARSE_SUPER | RO_COMPAT_LARGE_FILE | RO_COMPAT_DIR_NLINK | RO_COMPAT_EXTRA_ISIZE);
    put16(super + 0x15c, 32);
    put16(super + 0x15e, 32);
    return write_at(fd, block, sizeof block, 0);
}

static int write_bitmap(int fd, uint32_t block, uint32_t used, uint32_t size)
{
    uint8_t bitmap[BLOCK] = {0};
    memset(bitmap, 0xff, used / 8);
    bitmap[used / 8] = (uint8_t)((1u << used % 8) - 1);
    memset(bitmap + size / 8, 0xff, BLOCK - size / 8);  // what is beyond the end counts as taken
    return write_at(fd, bitmap, sizeof bitmap, (uint64_t)block * BLOCK);
}

static int write_group(int fd, uint32_t group, uint32_t blocks)
{
    uint8_t descriptor[DESCRIPTOR_BYTES] = {0};
    uint32_t groups = groups_of(blocks), size = group_size(group, blocks);
    uint32_t first = bitmap_block(group, groups), used = used_blocks(group, groups);
    uint32_t inodes = group == 0 ? RESERVED_INODES : 0;
    put32(descriptor + 0x00, first);
    put32(descriptor + 0x04, first + 1);
    put32(descriptor + 0x08, first + 2);
    put16(descriptor + 0x0c, size - used);
    put16(descriptor + 0x0e, INODES_PER_GROUP - inodes);
    put16(descriptor + 0x10, group == 0 ? 1 : 0);
    if (write_at(fd, descriptor, sizeof descriptor, BLOCK + (uint64_t)group * DESCRIPTOR_BYTES) != 0)
        return -1;
    if (write_bitmap(fd, first, used, size) != 0)
        return -1;
    return write_bitmap(fd, first + 1, inodes, INODES_PER_GROUP);
}

// The directory's one block has "." and "..", and the rest of it is the room behind "..".
static int write_root(int fd, uint32_t groups)
{
    uint8_t inodes[BLOCK] = {0};
    uint8_t *inode = inodes + (ROOT_INODE - 1) * INODE_BYTES;
    put16(inode + 0x00, 040700);
    put32(inode + 0x04, BLOCK);
    put16(inode + 0x1a, 2);
    put32(inode + 0x1c, BLOCK / 512);
    put32(inode + 0x28, root_block(groups));
    put16(inode + 0x80, 32);
    if (write_at(fd, inodes, sizeof inodes, (uint64_t)(bitmap_block(0, groups) + 2) * BLOCK) != 0)
        return -1;
    uint8_t names[BLOCK] = {0};
    put32(names + 0, ROOT_INODE);
    put16(names + 4, 12);
    memcpy(names + 6, "\1\2.", 3);  // the name's length, "this is a directory", the name
    put32(names + 12, ROOT_INODE);
    put16(names + 16, BLOCK - 12);
    memcpy(names + 18, "\2\2..", 4);
    return write_at(fd, names, sizeof names, (uint64_t)root_block(groups) * BLOCK);
}

int ext4_format(int fd, uint64_t size)
{
    uint32_t blocks = (uint32_t)(size / BLOCK), groups = groups_of(blocks);
    if (write_superblock(fd, blocks) != 0 || write_root(fd, groups) != 0)
        return -1;
    for (uint32_t group = 0; group < groups; group++)
        if (write_group(fd, group, blocks) != 0)
            return -1;
    return 0;
}
