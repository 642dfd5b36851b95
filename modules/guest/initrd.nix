# The initial RAM file system: the agent as /init, and the modules it loads. The same for every guest, but for whether it
# may be in a network. It isn't compressed: unpacking takes a guest longer than loading takes its host.
{ build, agent, kernel, network ? false }:
build.run {
  name = if network then "initrd-network" else "initrd";
  inherit agent;
  loadable = [ kernel.loadable ] ++ (if network then [ kernel.networking ] else [ ]);
  # Sorted names, numbered inodes, no devices, time zero, owner root: the archive depends on contents alone.
  script = ''
    mkdir -p root/dev root/proc root/sys root/run root/newroot root/modules
    for each in $loadable; do cp "$each"/modules/* root/modules/; done
    cp "$agent/init" root/init
    chmod -R u+w root
    chmod 0755 root/init
    find root -exec touch -h -d @0 {} +
    cd root
    find . | sort | cpio -o -H newc -R 0:0 --renumber-inodes --ignore-devno > "$out"
  '';
}
