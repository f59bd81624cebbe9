"""The methods by name, one line each: what ``--help``, the page and the documentation list. Imports nothing heavy."""

METHODS = {
    "class-attention": "what the class token looks at, head by head (DINO's figure 1; CaiT's figure 6)",
    "saliency": "the heads of class attention together (CaiT's figure 7)",
    "rollout": "attention followed through all layers (Abnar and Zuidema)",
    "gradient": "what speaks for a class: attention weighted by its gradient (Chefer et al.)",
    "patch-attention": "what one patch looks at, head by head",
    "windows": "GCViT's attention within its windows, head by head",
    "grad-cam": "what speaks for a class on a map of GCViT (Selvaraju et al.)",
    "distance": "mean attention distance by depth (ViT's figure 7, right)",
    "filters": "the filters of the patch embedding",
    "components": "their first 28 principal components (ViT's figure 7, left)",
    "positions": "similarity of position embeddings (ViT's figure 7, centre)",
}

OF_WEIGHTS = ("filters", "components", "positions")
"""Those that look at the weights alone, at no image."""
