/** The look of report.html, light and dark. Colours of lines are told apart without red against green. */
export const REPORT_STYLE = `
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1c2430;--quiet:#5b6675;--grid:#e4e8ee;--good:#0b6b50;--goodbg:#e3f4ee;--bad:#8f2d16;--badbg:#fbe9e3;
--s0:#2563c9;--s1:#d9730d;--s2:#0f8a76;--s3:#a13ea8;--s4:#8a7512;--s5:#5c6470}
@media(prefers-color-scheme:dark){:root{--paper:#14181e;--card:#1d232b;--ink:#e8ecf1;--quiet:#a0abba;--grid:#323b47;--good:#7fdcbc;--goodbg:#16352c;--bad:#ffb29c;--badbg:#43221a;
--s0:#73a7ff;--s1:#ffa657;--s2:#4fd0ba;--s3:#dd8ee4;--s4:#d6c05a;--s5:#aab4c2}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:1180px;margin:0 auto;padding:0 24px}
header{padding-top:36px}
h1{font-size:26px;line-height:1.25;margin:0;overflow-wrap:anywhere}
.lead{margin:6px 0 0;color:var(--quiet)}
main{padding-bottom:48px}
section{background:var(--card);border:1px solid var(--grid);border-radius:10px;padding:20px 24px 24px;margin-top:22px}
h2{font-size:17px;margin:0 0 8px;overflow-wrap:anywhere}
section>p{margin:0 0 14px;max-width:78ch;color:var(--quiet)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:18px 26px}
figure{margin:0}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
.numbers{font-variant-numeric:tabular-nums}
.numbers th,.numbers td{padding:6px 14px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
.numbers th:first-child{text-align:left;padding-left:0;font-weight:400;white-space:normal;overflow-wrap:anywhere;min-width:11em}
.numbers .inner{padding-left:18px!important;color:var(--quiet)}
.numbers thead th{color:var(--quiet);font-weight:400;font-size:13px}
.numbers .main th,.numbers .main td{font-weight:600}
.numbers .bar{width:46%;min-width:120px}
.wide{width:100%}
.bar svg{display:block;width:100%;height:12px}
.d0{fill:var(--s0)}.dq{fill:var(--s5);opacity:.65}
section>.verdict{margin:16px 0 0;padding:10px 14px;border-radius:8px;max-width:none;font-weight:500}
.good{color:var(--good)!important;background:var(--goodbg)}
.bad{color:var(--bad)!important;background:var(--badbg)}
.pictures th,.pictures td{padding:0 10px 10px 0;text-align:left;vertical-align:middle;font-weight:400}
.pictures thead th{color:var(--quiet);font-size:13px;padding-bottom:6px}
.pictures img{display:block;width:min(216px,17vw);height:min(216px,17vw);object-fit:cover;border-radius:6px;image-rendering:pixelated}
.pictures td:first-child img{image-rendering:auto}
.pictures tbody th{min-width:140px;max-width:190px;padding-left:8px;font-variant-numeric:tabular-nums;color:var(--quiet)}
.key{color:var(--ink);font-weight:600;overflow-wrap:anywhere}
details summary{cursor:pointer;color:var(--quiet)}
pre{margin:10px 0 0;overflow-x:auto;font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media print{section{break-inside:avoid}body{background:#fff}}
`;
