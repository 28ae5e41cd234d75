#pragma once

namespace matrix::eval {

/// The report page's style sheet: one column of scenarios, models side by side where there is room.
inline constexpr const char* kReportStyle = R"css(
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d9dee6;--ground:#f6f7f9;--card:#fff;--main:#0b5cad;--good:#1b7f3b;--bad:#a12f2f;--warn:#8a5a00}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b4;--line:#333b47;--ground:#14181e;--card:#1c222b;--main:#7db8f5;--good:#6fce8e;--bad:#f08f8f;--warn:#e3b55b}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.7rem;margin:0 0 4px}
h2{font-size:1.3rem;margin:36px 0 12px;padding-bottom:4px;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0;color:var(--soft);font-weight:600}
h4{font-size:1rem;margin:0 0 8px;overflow-wrap:anywhere}
.settings,.flags,.none{color:var(--soft);margin:0 0 8px;font-size:.9rem;overflow-wrap:anywhere}
.prompt{margin:2px 0 12px;font-size:1.05rem;overflow-wrap:anywhere}
.warning{color:var(--warn);font-weight:600}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:min(100%,560px)}
th,td{padding:6px 14px 6px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child{text-align:left;padding-right:20px;white-space:normal;overflow-wrap:anywhere}
thead th{color:var(--soft);font-weight:600;font-size:.85rem}
tbody th{font-weight:400}
tr.model th,td.main{font-weight:700}
td.main{color:var(--main)}
th.type{padding-left:16px;color:var(--soft)}
details{margin:10px 0;font-size:.92rem}
summary{cursor:pointer;overflow-wrap:anywhere}
li{margin:3px 0;overflow-wrap:anywhere}
section{margin:0 0 28px}
.models{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,360px),1fr))}
article{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px;min-width:0}
.frames{display:grid;grid-template-columns:repeat(3,1fr);gap:4px}
figure{margin:0;min-width:0}
figure img{display:block;width:100%;height:auto;border-radius:4px}
figcaption{color:var(--soft);font-size:.75rem}
dl{display:grid;grid-template-columns:repeat(4,1fr);gap:6px;margin:10px 0}
dt{color:var(--soft);font-size:.78rem}
dd{margin:0;font-weight:700;font-variant-numeric:tabular-nums}
li.yes b{color:var(--good)}
li.no b{color:var(--bad)}
@media (max-width:640px){main{padding:16px 12px 48px}.wide{display:none}table{min-width:0;width:100%;font-size:.9rem}th,td{padding-right:8px}th:first-child{min-width:8.5em}}
)css";

}  // namespace matrix::eval
