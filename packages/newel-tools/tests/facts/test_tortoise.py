"""What Tortoise has mapped, with a model that is declared as its are: it need not be installed."""

from newel_tools.facts.facts import load_facts
from newel_tools.facts.project import find_project

APP = "from fastapi import FastAPI\napp = FastAPI()\n"
TORTOISE = """
class Meta:
    abstract, db_table = False, "notes"


class CharField:
    source_field, model_name, null = None, None, False


class ForeignKeyFieldInstance:
    source_field, model_name, null = None, "models.User", True


class Model:
    _meta = Meta()
"""


def test_a_foreign_key_of_tortoise_is_stored_by_the_name_of_its_column(write):
    fields = "{'title': models.CharField(), 'owner': models.ForeignKeyFieldInstance()}"
    note = "class Note(models.Model):\n    _meta = models.Meta()\n"
    files = {
        "tortoise/__init__.py": "",
        "tortoise/models.py": TORTOISE,
        "main.py": f"{APP}from tortoise import models\n{note}Note._meta.fields_map = {fields}\n",
    }

    (entity,) = load_facts(find_project(write(files)), timeout_seconds=20.0).entities

    assert [(one.name, one.attribute) for one in entity.columns] == [
        ("title", "title"),
        ("owner_id", "owner"),
    ]
