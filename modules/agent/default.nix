# The guest agent, compiled from the C files beside this one: static, against musl, warnings as errors.
{ build, tools }:
build.run {
  name = "mvm-agent";
  source = builtins.path {
    name = "agent-source";
    path = ./.;
    filter = path: type: type == "regular" && builtins.match ".*\\.[ch]" path != null;
  };
  # two at a time: under emulation this is the longest step of a build, and comes last
  script = ''
    cat > functions <<'END'
    ${tools.c}
    END
    . ./functions
    printf '%s\0' "$source"/*.c | xargs -0 -n 1 -P 2 sh -euc '. ./functions; compile "$1"' sh
    mkdir "$out"
    link "$out/init" *.o
  '';
}
