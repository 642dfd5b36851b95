# Programs of the package set as command lines that need no installed system: their own ld.so, their own libraries.
{ packages }:
let
  inherit (packages) closure;
  loader = "${packages.libc6.tree}/usr/lib64/ld-linux-x86-64.so.2";
  musl = "${packages.musl-dev.tree}/usr";
  libgcc = "${packages.libgcc-14-dev.tree}/usr/lib/gcc/x86_64-linux-gnu/14";
  kernelHeaders = "${packages.linux-libc-dev.tree}/usr/include";
  libraries =
    roots: builtins.concatStringsSep ":" (map (p: "${p.tree}/usr/lib/x86_64-linux-gnu") (closure { inherit roots; }));
  tool = roots: program: "${loader} --library-path ${libraries roots} ${(builtins.head roots).tree}/${program}";
in
rec {
  inherit tool;
  mkfs-erofs = tool [ packages.erofs-utils ] "usr/bin/mkfs.erofs";
  veritysetup = tool [ packages.cryptsetup-bin ] "usr/sbin/veritysetup";
  zstd = tool [ packages.zstd ] "usr/bin/zstd";
  # The compiler proper, without its driver: saves a third of the tool chain, and shows each step it takes.
  # Their packages' own dependencies name other front ends; these libraries are what the three programs load.
  cc1 = tool [ packages.cpp-14-x86-64-linux-gnu ] "usr/libexec/gcc/x86_64-linux-gnu/14/cc1";
  as = tool [ packages.binutils-x86-64-linux-gnu ] "usr/bin/x86_64-linux-gnu-as";
  ld = tool [ packages.binutils-x86-64-linux-gnu ] "usr/bin/x86_64-linux-gnu-ld";
  strip = tool [ packages.binutils-x86-64-linux-gnu ] "usr/bin/x86_64-linux-gnu-strip";

  # Shell functions: `compile FILE.c [FLAG...]` makes FILE.o here, warnings are errors; `link PROGRAM FILE.o...` makes a
  # static program. Against musl, and the kernel's own headers.
  c = ''
    compile() {
      file=$1
      name=$(basename "$file" .c)
      shift
      ${cc1} -quiet -nostdinc -isystem ${musl}/include/x86_64-linux-musl -isystem ${libgcc}/include \
        -isystem ${kernelHeaders}/x86_64-linux-gnu -isystem ${kernelHeaders} \
        -std=c11 -Os -Wall -Wextra -Werror -fno-pie -fstack-protector-strong -fno-common -D_GNU_SOURCE "$@" \
        -dumpbase "$name.c" "$file" -o "$name.s"
      ${as} --64 "$name.s" -o "$name.o"
    }
    link() {
      program=$1
      shift
      ${ld} -static -nostdlib -z noexecstack -z relro -z now --build-id=none -s -o "$program" \
        ${musl}/lib/x86_64-linux-musl/crt1.o ${musl}/lib/x86_64-linux-musl/crti.o "$@" \
        --start-group ${musl}/lib/x86_64-linux-musl/libc.a ${libgcc}/libgcc.a --end-group \
        ${musl}/lib/x86_64-linux-musl/crtn.o
    }
  '';
}
