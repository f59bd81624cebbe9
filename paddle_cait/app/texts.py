"""Everything that the page says, in Chinese and in English. Refusals and errors are the library's own sentences."""

from __future__ import annotations

import os

from paddle_cait.explain.catalogue import METHODS

LANGUAGES = ("zh", "en")

# what -> (Chinese, English)
TEXTS = {
    "title": ("模型在看什么", "What a model looks at"),
    "intro": (
        "照片只在本机处理，不会上传到其他地方。",
        "Photographs stay on this machine; nothing is sent elsewhere.",
    ),
    "checkpoint": ("权重", "Weights"),
    "model": ("模型", "Model"),
    "photo": ("照片（拖入、粘贴或点击选择）", "Photograph (drop, paste or choose)"),
    "fit": ("模型看到的范围", "What the model sees"),
    "crop": ("居中的正方形（与评估相同）", "centred square, as in evaluation"),
    "whole": ("整张照片", "the whole photograph"),
    "prediction": ("预测", "Prediction"),
    "method": ("方法", "Method"),
    "layer": ("层", "Layer"),
    "show": ("注意力头", "Heads"),
    "all": ("全部", "all"),
    "one": ("单个", "one"),
    "mean": ("平均", "mean"),
    "max": ("最大", "max"),
    "min": ("最小", "min"),
    "head": ("头的编号", "Head"),
    "threshold": ("只显示占此比例注意力的图块", "Only the patches that hold this share"),
    "fusion": ("各头的合并方式", "Heads are merged by"),
    "discard": ("丢弃最小权重的比例", "Share of the smallest weights to discard"),
    "targets": ("要解释的类别", "Classes to explain"),
    "level": ("GCViT 的阶段", "Level of GCViT"),
    "metric": ("相似度", "Similarity"),
    "cosine": ("余弦", "cosine"),
    "dot": ("点积", "dot product"),
    "alpha": ("颜色的不透明度", "Opacity of the colours"),
    "wanted": ("请选择一张照片。", "Choose a photograph."),
    "picture": ("图", "Picture"),
    "click": ("在图上点击，选择要看的图块。", "Click on the picture to choose the patch that looks."),
    "input": ("输入 {height}×{width}", "input {height}×{width}"),
    "layers": ("{count} 层注意力", "{count} attention layers"),
    "classes": ("{count} 类", "{count} classes"),
    "features": ("只有特征，没有类别", "features, no classes"),
    "download": ("论文用图：下载 {format}", "Figure for a paper: {format}"),
    "numbers": ("数据：下载 {format}", "Its numbers: {format}"),
}

# The methods' lines in Chinese; the English ones are the catalogue's.
_METHODS = {
    "class-attention": "类别 token 在看什么，逐头显示（DINO 图 1，CaiT 图 6）",
    "saliency": "类别注意力各头的平均（CaiT 图 7）",
    "rollout": "注意力逐层累积到输入（Abnar 与 Zuidema）",
    "gradient": "支持某一类别的区域：注意力乘以梯度（Chefer 等）",
    "patch-attention": "一个图块在看什么，逐头显示",
    "windows": "GCViT 窗口内的注意力，逐头显示",
    "grad-cam": "GCViT 特征图上支持某一类别的区域（Selvaraju 等）",
    "distance": "各层的平均注意力距离（ViT 图 7 右）",
    "filters": "图块嵌入的滤波器",
    "components": "滤波器的前 28 个主成分（ViT 图 7 左）",
    "positions": "位置编码之间的相似度（ViT 图 7 中）",
}


def text(lang: str, what: str, **values: object) -> str:
    """What the page says in this language."""
    return TEXTS[what][LANGUAGES.index(lang)].format(**values)


def method_line(lang: str, method: str) -> str:
    """One line about a method."""
    return _METHODS[method] if lang == "zh" else METHODS[method]


def language(given: str | None = None) -> str:
    """``given``, or the one of this machine's locale: Chinese or else English."""
    if given:
        return given
    locale = next((os.environ[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(key)), "")
    return "zh" if locale.lower().startswith("zh") else "en"
