"""The triage node: films in over DICOM, kept, queued and scored.

    modality or PACS --C-STORE--> receiver -> files + rows -> queue -> worker -> result rows
                                  (a process)  (HOME)        (rows)    (a process)

`receiver` and `worker` are processes of their own, started by `supervise`, and meet only in the database
and in the files under HOME. Nothing here trains or evaluates.
"""
