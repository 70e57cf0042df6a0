"""What the values of colours mean, by numbers instead of a profile (ITU-T H.273)."""

from dataclasses import dataclass

BT709, UNSPECIFIED, BT2020, DISPLAY_P3 = 1, 2, 9, 12  # primaries
SRGB, PQ, HLG, LINEAR, GAMMA_22, GAMMA_28 = 13, 16, 18, 8, 4, 5  # transfer functions
# These transfer functions are shown as that of sRGB: BT.709, BT.601, BT.2020 and unspecified.
LIKE_SRGB = {1, UNSPECIFIED, 6, SRGB, 14, 15}
LIKE_BT709 = {0, BT709, UNSPECIFIED, 5, 6}  # the small differences of old television are ignored


@dataclass(frozen=True, slots=True)
class ColourCoding:
    """The numbers of the primaries and of the transfer function, as H.273 has them."""

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        return self.transfer in {PQ, HLG}

    @property
    def is_known(self) -> bool:
        """Return whether captiond can convert such colours."""
        primaries = {*LIKE_BT709, BT2020, DISPLAY_P3}
        transfers = {*LIKE_SRGB, PQ, HLG, LINEAR, GAMMA_22, GAMMA_28}
        return self.primaries in primaries and self.transfer in transfers

    @property
    def is_srgb(self) -> bool:
        """Return whether values are shown as those of sRGB."""
        return self.transfer in LIKE_SRGB and self.primaries in LIKE_BT709
