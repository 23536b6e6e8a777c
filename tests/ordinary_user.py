"""Run the command line without what root may do beyond others. Arguments: the command's."""

import ctypes
import runpy
import sys


def drop_privileges() -> None:
    """Root may read everything; without its capabilities it is an owner like any other."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    drop_privileges()
    sys.argv[0] = "streamtrain"
    runpy.run_module("streamtrain", run_name="__main__", alter_sys=True)
