import requests

from common import *

with requests.Session() as session:
    session.trust_env = False
    if PROXY != "-":
        session.proxies = {"http": PROXY, "https": PROXY}
    session.verify = CA
    for what, url in DOWNLOADS.items():
        answer = session.get(url, timeout=60)
        report(what, answer.status_code, answer.content)
    for what, url in UPLOADS.items():
        answer = session.post(url, data=UPLOAD, timeout=60)
        report_upload(what, answer.status_code, answer.content)
        answer = session.post(url, data=upload_in_pieces(), timeout=60)
        report_upload(what + "-chunked", answer.status_code, answer.content)
    with session.get(EVENTS, stream=True, timeout=60) as answer:
        report_events(answer.status_code, answer.iter_lines(decode_unicode=True))
