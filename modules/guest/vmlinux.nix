# How vmlinux, the ELF file that boots fastest, is taken out of a bzImage: shell lines for `image`, into $out.
{ tools }:
# A bzImage's payload (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length) is the zstd
# stream of vmlinux, and behind it four bytes of length. QEMU's microvm starts a vmlinux by its PVH entry.
''
  number() { od -An -t u"$2" -j "$1" -N "$2" "$image" | tr -d ' '; }
  sectors=$(number 497 1)
  start=$(( (sectors + 1) * 512 + $(number 584 4) ))
  length=$(( $(number 588 4) - 4 ))
  dd if="$image" bs=64k iflag=skip_bytes,count_bytes skip=$start count=$length 2>/dev/null | ${tools.zstd} -q -d -o "$out"
''
