# Ready guests, by name. Each is a set of mkGuest's options and declares none of its own.
{
  minimal = import ./minimal.nix;
  python = import ./python.nix;
  builder = import ./builder.nix;
}
