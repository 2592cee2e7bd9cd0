"""A small catalogue, and tiny towers with random weights that are saved and loaded like real ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import torch
from PIL import Image

from recdistill.contracts.tables import write_table
from recdistill.students import EncodersConfig, encode

WORDS = [
    "heat",
    "toy",
    "story",
    "crime",
    "night",
    "river",
    "love",
    "war",
    "star",
    "city",
    "ghost",
    "king",
    "house",
    "road",
    "moon",
    "dog",
    "train",
    "sea",
    "law",
    "gold",
]
SMALL_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
GENRES = ["Crime", "Drama", "Comedy", "War"]


def png(seed: int, size: tuple[int, int] = (24, 36)) -> bytes:
    """A picture of noise around one colour."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 200, 3) + rng.integers(0, 55, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def wav(seed: int, *, seconds: float = 0.5, rate: int = 8000) -> bytes:
    """A tone whose pitch follows from the seed."""
    wave = np.sin(2 * np.pi * (200 + 150 * seed) * np.arange(int(seconds * rate)) / rate)
    file = io.BytesIO()
    soundfile.write(file, 0.3 * wave, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def make_items(count: int) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Items as a user gives them, media by their ids; and the media. Every modality is missing somewhere."""
    rng = np.random.default_rng(7)
    items, media = [], {}
    for number in range(count):
        text = {"title": " ".join(rng.choice(WORDS, 2)).capitalize()}
        if number % 4:
            text["plot"] = " ".join(rng.choice(WORDS, int(rng.integers(3, 12)))) + "."
        item: dict[str, Any] = {"text": text}
        structured: dict[str, Any] = {}
        if number % 5:
            structured["genre"] = sorted(set(rng.choice(GENRES, 2).tolist()))
            structured["cast"] = [f"Person {n}" for n in sorted(set(rng.integers(0, 8, 3).tolist()))]
        if number % 3:
            structured["year"] = float(rng.integers(1950, 2020))
        if structured:
            item["structured"] = structured
        for kind, have, make in (("image", number % 3, png), ("audio", (number + 1) % 4 == 0, wav)):
            if have:
                names = [f"{kind}-{number}-{place}" for place in range(int(have))]
                media.update({name: make(number + 100 * place) for place, name in enumerate(names)})
                item[kind] = names
        items.append(item)
    return items, media


def write_catalogue(
    folder: Path, items: list[dict[str, Any]], media: dict[str, bytes], ids: list[Any] | None = None
) -> list[Any]:
    """Write canonical tables of such items; returns the item ids."""
    ids = ids or [f"i{number:03d}" for number in range(len(items))]
    of = [item.get("structured", {}) for item in items]
    strings = pa.list_(pa.string())
    table = pa.table(
        {
            "item_id": pa.array(ids),
            "text_title": pa.array([item.get("text", {}).get("title") for item in items], pa.string()),
            "text_plot": pa.array([item.get("text", {}).get("plot") for item in items], pa.string()),
            "tags_genre": pa.array([s.get("genre", []) for s in of], strings),
            "tags_cast": pa.array([s.get("cast", []) for s in of], strings),
            "number_year": pa.array([s.get("year") for s in of], pa.float64()),
            "labels_secret": pa.array([["answer"]] * len(items), strings),
            "images": pa.array([item.get("image", []) for item in items], strings),
            "audio": pa.array([item.get("audio", []) for item in items], strings),
        }
    )
    write_table(table, folder / "items.parquet")
    write_media(folder, media)
    return ids


def write_media(folder: Path, media: dict[str, bytes]) -> None:
    columns = {"media_id": pa.array(list(media), pa.string()), "path": pa.nulls(len(media), pa.string())}
    write_table(pa.table({**columns, "bytes": pa.array(list(media.values()), pa.binary())}), folder / "media.parquet")


def as_given(items: list[dict[str, Any]], media: dict[str, bytes]) -> list[dict[str, Any]]:
    """The same items with the media's bytes in place of their ids."""
    return [
        {key: [media[name] for name in value] if key in ("image", "audio") else value for key, value in item.items()}
        for item in items
    ]


def tiny_bert(folder: Path) -> Path:
    """A BERT of two layers and its word-piece tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: number for number, token in enumerate([*special, ".", ":", "title", "plot", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=40, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def tiny_clip_vision(folder: Path) -> Path:
    """The vision half of a CLIP and its image processor."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        projection_dim=8,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def tiny_qwen(folder: Path) -> Path:
    """A Qwen3 of one layer, with the tiny BERT's tokenizer."""
    from transformers import Qwen3Config, Qwen3Model

    tiny_bert(folder)
    without_weights(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=40,
    )
    Qwen3Model(config).save_pretrained(folder)
    return folder


def tiny_siglip(folder: Path) -> Path:
    """The vision half of a SigLIP and its image processor."""
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    config = SiglipVisionConfig(**SMALL_VISION, image_size=32, patch_size=16)
    SiglipVisionModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def tiny_clip(folder: Path) -> Path:
    """A whole CLIP with the image processor of its vision half."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    tiny_clip_vision(folder)
    without_weights(folder)
    torch.manual_seed(0)
    vision = CLIPVisionConfig(**SMALL_VISION, image_size=32, patch_size=16)
    text = CLIPTextConfig(**SMALL_VISION, vocab_size=40)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    return folder


def tiny_clap(folder: Path, *, fusion: bool = False) -> Path:
    """The audio half of a CLAP and its feature extractor."""
    from transformers import ClapAudioConfig, ClapAudioModel, ClapFeatureExtractor

    torch.manual_seed(0)
    config = ClapAudioConfig(
        spec_size=64,
        num_mel_bins=16,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embeds_hidden_size=8,
        depths=[1, 1],
        num_attention_heads=[1, 2],
        hidden_size=16,
        window_size=4,
        enable_fusion=fusion,
        num_classes=2,
    )
    ClapAudioModel(config).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=4000,
        hop_length=200,
        fft_window_size=256,
        frequency_max=2000,
        truncation="fusion" if fusion else "rand_trunc",
    ).save_pretrained(folder)
    return folder


def without_weights(folder: Path) -> None:
    """Take a model folder's weights away."""
    for path in folder.glob("model*.safetensors"):
        path.unlink()


class World:
    """An encoded catalogue."""

    def __init__(self, folder: Path, config: EncodersConfig) -> None:
        self.items, self.media = make_items(24)
        self.data, self.content, self.config = folder / "data", folder / "content", config
        self.ids = write_catalogue(self.data, self.items, self.media)
        encode(config, data=self.data, out=self.content)

    @property
    def given(self) -> list[dict[str, Any]]:
        return as_given(self.items, self.media)
