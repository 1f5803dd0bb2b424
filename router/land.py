"""The land of the world, for maps: one bit for each of 160 x 64 dots.

Natural Earth's at 1:110 million (public domain), equirectangular, from 180 degrees west to 180 east and from 78 degrees
north to 58 south.
"""

from __future__ import annotations

import base64
import zlib

COLUMNS, LINES = 160, 64
NORTH, SOUTH = 78.0, -58.0
_LAND = (
    b"c-n1}&2AGh5XZ-HnvK*5SK`t`MZ%3^4jftuY5OSf1mwV>l@Q)0?*ZZska&QaFL6OU0!oF%l|>+MgyUgmY;S^+Ie5K4kLTm>0f2k`"
    b"3yTpHkX4XuaL{UEWDhmEfw1^IC=9ewR|auG8xQ82b<7@swup3Nf%y0PYiC<fc!kM+@^aJS+-WQZyu4gK)s4B%DDr8n;1r;?nFSRr"
    b"hN_`tb)C@4!PJm*OH~fW$xCzTh#x&b?^e3&xfP1|hq^c%=M3D4k~*O)MS7#}*L1|T7DjPynqB7EZ*?g-3ZweW2Y)8b7DlUCU|{w("
    b"GZxgqV`i(luv!G|`%2pQENm>S@*<Hx6=tyIH9iu*iLgU_B_~OO^lk_KNTT9;!?e%Yqb()#)1@lyJH%g^U5t_v_$FGH*=5s+-?a<R"
    b"n#{&cy8EK>bw4w;On1M)Y+M*Di()e~FYK-p_8TU;Ah_+N<_MECg))hOm7pGuh8@!+^swe0?jLu4=vV||C$qv#Vw8U5H>}MEgD2CD"
    b"#T<Ypsbk2DT2xRqB?tX;a)5Jv-Z3sH=`<<z#g3i97OU_*?|&4r68ps4by1a{tHM!kGnozicamDliLGaLEQ7KvezehXC{N#(cvOap"
    b"u**UkvW_)n9JUxQ@^i<O9I<;Y(3z>Q#au737PhRn8IEFZxXU0tr*hkDn&ZNb?PF>WgMI9O`v*ePlF0"
)


def bits() -> bytes:
    """Line by line from the north, each from the west; the first dot is the highest bit."""
    return zlib.decompress(base64.b85decode(_LAND))
