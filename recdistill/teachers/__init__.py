"""Teachers: embedding tables by id learned from behaviour, and tables brought from elsewhere.

Everything leaves as ``teacher_embeddings`` tables; no other room imports the models.
"""

from __future__ import annotations

from recdistill.teachers.config import TeachersConfig
from recdistill.teachers.stage import teach

__all__ = ["TeachersConfig", "teach"]
