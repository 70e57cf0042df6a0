"""captiond on Ray: captions and tags for datasets of Ray Data.

    import ray
    from captiond.ray import Captioner

    images = ray.data.read_parquet("s3://bucket/images.parquet")  # with a column uri
    captioned = images.map_batches(
        Captioner,
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=4, max_concurrent_calls_per_actor=2),
        num_gpus=1,
        fn_constructor_kwargs={"settings": {"model": {"precision": "bf16"}}},
    )
    captioned.write_parquet("s3://bucket/captions")

It needs the extra `captiond[ray]`. `captiond ray` is the same as a command.
"""

from captiond.ray.actors import RayCaptioner as Captioner

__all__ = ["Captioner"]
