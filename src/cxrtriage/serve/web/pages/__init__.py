"""The pages: what a signed-in person sees and does; `app` includes `router`.

reading_list  what waits, kept up to date
study         a study with its films, what the model says, and what was said and done
judging       what a reader does: look, verdict, priority, read, open again
films         the pictures of a study, and why the model says what it says
failures      what nobody looks after unless somebody tries again
figures       how long it takes, and whether the model still does what it did
upkeep        settings, model, audit trail
notices       where the link of a notice leads
static        style and scripts
"""

from fastapi import APIRouter

from cxrtriage.serve.web.pages import failures, figures, films, judging, notices, reading_list, static, study, upkeep

router = APIRouter(include_in_schema=False)
for part in (reading_list, study, judging, films, failures, figures, upkeep, notices, static):
    router.include_router(part.router)
