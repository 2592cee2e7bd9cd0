"""recdistill: distil behavioural recommenders into multimodal item encoders.

Importing it makes ``transformers.AutoModel`` know the student; nothing heavy is imported for that.
"""

from recdistill.students.registration import register

register()
