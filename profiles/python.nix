# Debian's Python with numpy.
let
  minimal = import ./minimal.nix;
in
minimal
// {
  name = "python";
  packages = p: [ p.busybox-static p.python3 p.python3-numpy ];
  # headers and the manual are of no use to a running script
  without = p: [ p.python3-numpy-dev ];
  links = minimal.links // {
    # what update-alternatives would have set
    "/usr/lib/x86_64-linux-gnu/libblas.so.3" = "blas/libblas.so.3";
    "/usr/lib/x86_64-linux-gnu/liblapack.so.3" = "lapack/liblapack.so.3";
  };
  command = [ "/usr/bin/python3" "-c" "import numpy; print(numpy.arange(5).sum())" ];
  environment = minimal.environment // { PYTHONDONTWRITEBYTECODE = "1"; };
  memoryMiB = 256;
}
