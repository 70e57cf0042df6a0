"""Errors of models and devices."""

from captiond.errors.captiond_error import CaptiondError


class ModelMissing(CaptiondError):
    """The files of a model are not on disk and cannot be downloaded."""

    code = "model_missing"
    status = 503


class ModelBroken(CaptiondError):
    """The files of a model exist but cannot be loaded."""

    code = "model_broken"
    status = 503


class OutOfMemory(CaptiondError):
    """The device has too little memory for a batch, or even for a single image."""

    code = "out_of_memory"
    status = 503


class OptionNotSupported(CaptiondError):
    """The model does not support an option of the request, such as a prompt."""

    code = "option_not_supported"
    status = 422
