"""How the pixels of a batch are gathered: on the host, and by a device that resizes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from captiond.captioners.devices import pin_memory
from captiond.captioners.protocol import Captioner
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.resampling import resized
from captiond.decoding.slots import Slots
from captiond.host.machine import total_bytes
from captiond.settings.config import Settings
from captiond.worker import gathering as gathering_module
from captiond.worker.gathering import DeviceGathering, HostGathering, make_gathering
from captiond.worker.process import whole_images_bytes

pytestmark = pytest.mark.anyio
GEOMETRY = Geometry(6, 8, 3)
WHOLE = replace(GEOMETRY, whole_bytes=4096)


def image(height: int, width: int) -> Pixels:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def captioner(device: str) -> Captioner:
    return cast(Captioner, SimpleNamespace(geometry=GEOMETRY, device=torch.device(device)))


def buffer(images: int) -> Pixels:
    return np.zeros((images, *GEOMETRY.shape), np.uint8)


class SlowResizer:
    """What a GPU does, in numbers."""

    def __call__(self, images: Sequence[Pixels]) -> torch.Tensor:
        return torch.from_numpy(np.stack([resized(each, WHOLE) for each in images]))


@pytest.mark.parametrize("can_pin", [True, False])
async def test_a_device_gets_images_as_they_are_and_pins_the_memory_that_is_used(
    monkeypatch: pytest.MonkeyPatch, *, can_pin: bool
) -> None:
    """Where memory cannot be pinned, that is tried once."""
    pinned = list[int]()

    def pin(memory: Pixels) -> bool:
        pinned.append(len(memory))
        return can_pin

    monkeypatch.setattr(gathering_module, "pin_memory", pin)
    slots, images = Slots(40, WHOLE), {0: image(6, 8), 5: image(20, 30), 39: image(3, 2)}
    for slot, pixels in images.items():
        slots.write(slot, pixels)
    with ThreadPoolExecutor(1) as thread:
        gathering = DeviceGathering(slots, SlowResizer(), thread)
        for _ in range(2):
            filled = [(slot, (one.shape[1], one.shape[0])) for slot, one in images.items()]
            gathered = await gathering.gather(filled)
            assert isinstance(gathered, torch.Tensor)
            for ours, one in zip(gathered.numpy(), images.values(), strict=True):
                assert np.array_equal(ours, resized(one, WHOLE))
    assert pinned == ([16, 8] if can_pin else [16]), "the first slots and the last ones, once"


async def test_a_cpu_copies_what_decoders_have_resized() -> None:
    with ThreadPoolExecutor(1) as thread:
        gathering = make_gathering(captioner("cpu"), buffer(2), 9, 1, thread, memory=1 << 30)
        assert isinstance(gathering, HostGathering)
        assert (gathering.slots.count, gathering.slots.imports) == (9, 1)
        for slot in (3, 7):
            gathering.slots.write(slot, image(6, 8) + slot)
        pixels: Any = await gathering.gather([(7, (8, 6)), (3, (8, 6))])
    assert np.array_equal(pixels, np.stack([image(6, 8) + 7, image(6, 8) + 3]))


@pytest.mark.parametrize(("memory", "resizes"), [(1 << 27, True), (1 << 18, False), (0, False)])
def test_a_gpu_resizes_if_it_can_and_there_is_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, resizes: bool
) -> None:
    def resizer(device: torch.device, geometry: Geometry, images: int) -> SlowResizer:
        assert (device.type, images) == ("cuda", 2)
        assert 1 << 20 <= geometry.whole_bytes <= 3 * 1536 * 1024
        return SlowResizer()

    monkeypatch.setattr(gathering_module, "resizer_for", resizer)
    with ThreadPoolExecutor(1) as thread:
        one = make_gathering(captioner("cuda"), buffer(2), 100, 0, thread, memory=memory)
        monkeypatch.setattr(gathering_module, "resizer_for", lambda *_: None)
        other = make_gathering(captioner("cuda"), buffer(2), 100, 0, thread, memory=memory)
    assert isinstance(one, DeviceGathering if resizes else HostGathering)
    assert isinstance(other, HostGathering)


def test_a_gpu_does_not_resize_if_only_small_images_fit() -> None:
    """The decoders would resize all others."""
    large = SimpleNamespace(geometry=Geometry(384, 384, 3), device=torch.device("cuda"))
    memory = 10 * (2 * 3 * 384 * 384 - 1)
    with ThreadPoolExecutor(1) as thread:
        made = make_gathering(cast(Captioner, large), buffer(1), 10, 0, thread, memory=memory)
    assert isinstance(made, HostGathering)
    assert made.slots.bytes == 10 * 3 * 384 * 384


def test_the_model_processes_share_the_memory_for_images_that_gpus_resize() -> None:
    one, four, none = (
        whole_images_bytes(Settings.model_validate(values))
        for values in (
            {"model": {"device": "cuda:0"}},
            {"model": {"device": "cuda:0,cuda:1,cuda:2,cuda:3"}},
            {"images": {"gpu_resize": False}},
        )
    )
    assert 0 < 4 * four <= one <= total_bytes() // 8
    assert none == 0


async def test_a_gpu_without_memory_gets_that_which_torch_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering_module, "pin_memory", lambda _: False)
    slots, full = Slots(1, WHOLE), [True]

    def resizer(images: Sequence[Pixels]) -> torch.Tensor:
        if full and full.pop():
            raise torch.OutOfMemoryError("no memory for the weights of the resampling")
        return SlowResizer()(images)

    slots.write(0, image(20, 30))
    with ThreadPoolExecutor(1) as thread:
        gathered = await DeviceGathering(slots, resizer, thread).gather([(0, (30, 20))])
    assert np.array_equal(cast(Any, gathered)[0], resized(image(20, 30), WHOLE))


@pytest.mark.parametrize(("code", "kernels"), [(0, 0), (2, 1)])
def test_memory_that_cannot_be_pinned_does_not_fail_the_model(
    monkeypatch: pytest.MonkeyPatch, code: int, kernels: int
) -> None:
    """CUDA's runtime keeps the error, and torch raises it after the next kernel of any kind."""
    raised = list[str]()

    def ones(*_: int, device: str) -> None:
        raised.append(device)
        raise torch.AcceleratorError("CUDA error: out of memory")

    runtime = SimpleNamespace(cudaHostRegister=lambda *_: code)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch, "ones", ones)
    with capture_logs() as logs:
        assert pin_memory(image(4, 4)) == (code == 0)
    assert raised == ["cuda"] * kernels
    assert [entry["event"] for entry in logs] == ["memory_not_pinned"] * kernels
