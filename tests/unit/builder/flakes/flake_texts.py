"""Texts of flakes, and the packages that each has."""

#: Texts of flakes and what is found there; Nix has these names, too (tests/integration/test_completion.py).
WRITTEN = {
    "{ outputs = { self }: { packages.x86_64-linux.hello = 1; }; }": ("hello",),
    "{ outputs = _: { packages.x86_64-linux = { b = 1; a = 2; }; }; }": ("b", "a"),
    "{ outputs = { self, ... }@inputs: { packages = { x86_64-linux = { a = 1; }; i686-linux.no = 1; }; }; }": ("a",),
    "{ outputs = inputs@{ self }: { packages = { x86_64-linux.a = 1; }; packages.i686-linux.no = 1; }; }": ("a",),
    '{ outputs = _: let system = "x86_64-linux"; in { packages.${system} = { a = 1; }; }; }': ("a",),
    '{ outputs = _: let s = "x86_64-linux"; n = "a"; in { packages.${s}.${n} = 1; }; }': ("a",),
    '{ outputs = _: let s = "i686-linux"; in { packages.${s}.no = 1; packages.x86_64-linux.a = 1; }; }': ("a",),
    "{ outputs = { self }: { packages.x86_64-linux = { inherit self; inherit (self) b c; }; }; }": ("self", "b", "c"),
    "{ outputs = _: { packages.x86_64-linux = rec { a = 1; default = a; }; }; }": ("a", "default"),
    '{ outputs = _: { "packages"."x86_64-linux"."a" = 1; packages.x86_64-linux."b.c" = 1; }; }': ("a",),
    "{ outputs = _: { packages.x86_64-linux = { a = with { }; let x = 1; in x; b = assert true; 1; }; }; }": ("a", "b"),
    "{ outputs = _: { packages.x86_64-linux = { a = let x = let y = 1; in y; z = 2; in x; b = 1; }; }; }": ("a", "b"),
    "{ outputs = _: { packages.x86_64-linux = { a = { no = 1; }; b.no = 1; }; }; }": ("a",),
    "# { } outputs\n{ outputs = _: { /* } ; */ packages.x86_64-linux = { # no = 1;\n a = 1; /* no = 1; */ }; }; }": (
        "a",
    ),
    r'{ outputs = _: { packages.x86_64-linux = { a = "} no = 1; \" \${ $${"; b = "${"}"} \${}"; }; }; }': ("a", "b"),
    "{ outputs = _: { packages.x86_64-linux = { a = '' } ''${ ''' no = 1; $${ ${''}''} ''; b = ''$''; }; }; }": (
        "a",
        "b",
    ),
    "{ outputs = _: { packages.x86_64-linux = { a = ./no/. + ./no; b = no:it=1; c = <no>; d = x: x; }; }; }": (
        *"abcd",
    ),
    "{ outputs = _: { packages.x86_64-linux = { a = ./no; b = [ { } ( x: x ) ]; c = 1.5; }; }; }": ("a", "b", "c"),
    "{ inputs = { }; description = ''outputs = {''; outputs = _: { packages.x86_64-linux.a = 1; }; }": ("a",),
}
