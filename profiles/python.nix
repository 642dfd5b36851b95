# Debian's Python with numpy and pip.
let
  minimal = import ./minimal.nix;
in
minimal
// {
  name = "python";
  packages = p: [ p.busybox-static p.python3 p.python3-numpy p.python3-pip ];
  # of no use to a running script: headers, the program of maintainer scripts, and what pip has of its own
  without = p: [ p.python3-numpy-dev p.openssl p.python3-wheel ];
  links = minimal.links // {
    # what update-alternatives would have set
    "/usr/lib/x86_64-linux-gnu/libblas.so.3" = "blas/libblas.so.3";
    "/usr/lib/x86_64-linux-gnu/liblapack.so.3" = "lapack/liblapack.so.3";
    # where OpenSSL looks for certificates, of the package openssl
    "/usr/lib/ssl/cert.pem" = "/etc/ssl/certs/ca-certificates.crt";
  };
  command = [ "/usr/bin/python3" "-c" "import numpy; print(numpy.arange(5).sum())" ];
  environment = minimal.environment // {
    PATH = "/tmp/.local/bin:${minimal.environment.PATH}";
    PYTHONDONTWRITEBYTECODE = "1";
    # no apt manages packages here, and what pip installs goes below HOME: the image's own are read-only
    PIP_BREAK_SYSTEM_PACKAGES = "1";
    PIP_DISABLE_PIP_VERSION_CHECK = "1";
    PIP_NO_CACHE_DIR = "1";
  };
  memoryMiB = 512;
  scratchMiB = 256;
  network = true;
}
