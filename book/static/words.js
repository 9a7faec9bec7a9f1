// All words that the site's scripts say, by language. A classic script, for pages that were opened
// from a file; the worker imports it for what it leaves in globalThis.

{
  const WORDS = {
    en: {
      // figures (book.js)
      close: "Close",
      enlarge: "Enlarge {name}",
      enlarged: "Enlarged figure",
      theFigure: "the figure",

      // Try your own photo (book/try.md): what can be clicked
      choose: "Choose a photo",
      shoot: "Take a photo",
      orDrop: "or drop one, or take a sample:",
      samples: "Sample photos",
      sample: "sample photo: {name}",
      wrongBrief: "wrong",
      noneBrief: "no class",
      photo: "Photo",
      speaksFor: "What speaks for …",
      anyClass: "Any other class",
      typeName: "type a name, press Enter",
      strength: "Grad-CAM over the photo",
      download: "Download the pictures",
      takeIt: "Take it",
      cancel: "Cancel",

      // what is shown
      asSeen: "The photo, as the network sees it",
      overPhoto: "{title}, over the photo",
      pictureFor: "{title}, for {described}",
      described: "“{name}”, probability {percent} %",
      scales:
        "Grad-CAM is divided by its largest value. The other maps are divided by the 99.5th " +
        "percentile of their absolute values, the rest clipped; grey is zero.",
      question: "Where did the network look, and at what?",
      strengthUsed: "Grad-CAM with strength {strength} % over the photo.",

      // what happens
      loadingPage: "Loading …",
      loading: "Loading",
      loaded: "{done} of {total} MB",
      reading: "Reading the photo …",
      looking: "Looking …",
      loadingNetwork: "Loading the network and what runs it, {size}, once …",
      begin: "Choose a photo or a sample. What computes here is loaded then, once: {size}.",
      done: "{described}. Computed here, in {seconds} seconds.",
      remarked: "{done} {remark}",
      wrongHere:
        "The network is wrong about this photo: it says “{says}”, though “{fits}” is one of its " +
        "classes.",
      noneFits:
        "None of the network's {count} classes fits this photo, so its answer, “{says}”, cannot " +
        "be right.",

      // classes
      thatIsShown: "“{name}” is what is shown.",
      noClass: "The network knows no class “{name}”. {more}",
      didYouMean: "Did you mean {names}?",
      listBelow: "The list below the field has all of them.",

      // what does not work
      fromFile:
        "This page was opened from a file, and a browser lets no file load others. Serve the " +
        "folder instead: python -m http.server in _build/html, then open " +
        "http://localhost:8000/{page}.",
      browserLacks:
        "This browser lacks WebAssembly, modules or OffscreenCanvas, which this page computes " +
        "with. A current Firefox, Chrome, Edge or Safari has them.",
      scriptMissing:
        "The page's script could not be loaded: live.js or a file that it needs is missing on " +
        "the server, or is not served as JavaScript.",
      scriptStalled:
        "The page's script does not load: the line may have stalled. Loading the page again may " +
        "help.",
      workerStalled:
        "The page's worker does not load: the line may have stalled. Choose a photo again.",
      workerMissing:
        "The page's worker could not start: worker.js or a file that it needs is missing on the " +
        "server, or this browser is too old for it. A current Firefox, Chrome, Edge or Safari " +
        "does.",
      fileMissing: "{name} is missing on the server ({status}).",
      lineStalled: "The line has stalled: nothing more of {name} came in {seconds} seconds.",
      lineDown: "{name} could not be loaded: the line may be down.",
      reload: "{why} Loading the page again may help.",
      again: "{why} Choose a photo again to try once more.",
      failed: "It did not work: {error}.",
      noCamera: "The camera could not be used ({why}). Choose a photo instead.",
      noPermission: "no permission",
      onlyHttps: "only over https",
      noFile: "That was no file. Save the picture first, then drop the file here.",
      fileTooLarge:
        "The file has {size} MB; at most {most} MB are read. Scale the picture down first.",
      noPicture:
        "This file could not be read as a picture. Is it complete? Try saving it as PNG or JPEG.",
      tooManyPixels:
        "The picture has {size} pixels; at most {most} million are read. Scale it down first.",
      tooFewPixels: "The picture has {size} pixels; at least {least} a side are needed.",
      tooLong: "The picture is too long for its width ({size} pixels). Crop it first.",
    },

    ja: {
      close: "閉じる",
      enlarge: "{name}を拡大する",
      enlarged: "拡大した図",
      theFigure: "図",

      choose: "写真を選ぶ",
      shoot: "写真を撮る",
      orDrop: "または、ここに写真をドロップするか、サンプルを選んでください。",
      samples: "サンプルの写真",
      sample: "サンプルの写真：{name}",
      wrongBrief: "誤答",
      noneBrief: "該当なし",
      photo: "写真",
      speaksFor: "どのクラスの根拠を見ますか",
      anyClass: "ほかのクラス",
      typeName: "クラス名（英語）を入力してEnter",
      strength: "写真に重ねるGrad-CAMの濃さ",
      download: "画像をダウンロードする",
      takeIt: "撮影する",
      cancel: "キャンセル",

      asSeen: "ネットワークから見た写真",
      overPhoto: "写真に重ねた{title}",
      pictureFor: "{title}、{described}",
      described: "「{name}」、確率{percent} %",
      scales:
        "Grad-CAMは最大値で割っています。ほかのマップは、絶対値の99.5パーセンタイルで割り、" +
        "それを超える値を切り詰めています。灰色が0です。",
      question: "ネットワークはどこを見て、そこに何を見たのでしょうか。",
      strengthUsed: "写真に重ねたGrad-CAMの濃さは{strength} %です。",

      loadingPage: "読み込んでいます…",
      loading: "読み込み中",
      loaded: "{total} MBのうち{done} MB",
      reading: "写真を読み込んでいます…",
      looking: "計算しています…",
      loadingNetwork:
        "ネットワークとその実行環境を読み込んでいます。大きさは{size}で、読み込むのは一度だけです…",
      begin:
        "写真またはサンプルを選んでください。計算に必要なものは、そのとき一度だけ読み込みます。大きさは{size}です。",
      done: "{described}。このブラウザで{seconds}秒で計算しました。",
      remarked: "{done}{remark}",
      wrongHere:
        "この写真の答えは誤りです。ネットワークは「{says}」と答えますが、「{fits}」というクラスも知っています。",
      noneFits:
        "この写真に当てはまるクラスは、ネットワークの{count}クラスの中にありません。" +
        "そのため、「{says}」という答えは正しくありえません。",

      thatIsShown: "「{name}」はいま表示しているクラスです。",
      noClass: "「{name}」というクラスをこのネットワークは知りません。{more}",
      didYouMean: "もしかして：{names}",
      listBelow: "入力欄の下の一覧に、すべてのクラスがあります。",

      fromFile:
        "このページはファイルとして開かれていますが、ブラウザはファイルからほかのファイルを読み込めません。" +
        "_build/htmlで python -m http.server を実行し、http://localhost:8000/{page} を開いてください。",
      browserLacks:
        "このブラウザでは、計算に使うWebAssembly、モジュール、OffscreenCanvasのいずれかが使えません。" +
        "最新のFirefox、Chrome、Edge、Safariでお試しください。",
      scriptMissing:
        "このページのスクリプトを読み込めませんでした。live.js、またはそれが必要とするファイルがサーバーにないか、" +
        "JavaScriptとして配信されていません。",
      scriptStalled:
        "このページのスクリプトの読み込みが終わりません。通信が止まっているようです。ページを再読み込みしてみてください。",
      workerStalled:
        "このページのワーカーの読み込みが終わりません。通信が止まっているようです。もう一度写真を選んでください。",
      workerMissing:
        "このページのワーカーを起動できませんでした。worker.js、またはそれが必要とするファイルがサーバーにないか、" +
        "このブラウザが古すぎます。最新のFirefox、Chrome、Edge、Safariでお試しください。",
      fileMissing: "{name}がサーバーにありません（{status}）。",
      lineStalled: "通信が止まっています。{name}の続きが{seconds}秒間届きませんでした。",
      lineDown: "{name}を読み込めませんでした。通信が切れているようです。",
      reload: "{why}ページを再読み込みしてみてください。",
      again: "{why}もう一度写真を選ぶと、再び試します。",
      failed: "うまくいきませんでした（{error}）。",
      noCamera: "カメラを使えませんでした（{why}）。代わりに写真を選んでください。",
      noPermission: "許可がありません",
      onlyHttps: "httpsでのみ使えます",
      noFile:
        "ファイルではありませんでした。画像をいったん保存してから、そのファイルをここにドロップしてください。",
      fileTooLarge:
        "ファイルの大きさが{size} MBあります。読み込めるのは{most} MBまでです。先に画像を縮小してください。",
      noPicture:
        "このファイルは画像として読み込めませんでした。ファイルが壊れていないか確かめ、PNGかJPEGで保存し直してみてください。",
      tooManyPixels:
        "画像が{size}画素あります。読み込めるのは{man}万画素までです。先に縮小してください。",
      tooFewPixels: "画像が{size}画素しかありません。縦横とも{least}画素以上が必要です。",
      tooLong: "画像が細長すぎます（{size}画素）。先に切り抜いてください。",
    },
  };

  // the methods' titles are the book's own, from model.json; where they are not said in English:
  const TITLES = { ja: { gradient: "勾配", guided: "ガイド付き逆伝播" } };

  /** A sentence in the page's language, with `values` in the place of its {names}. */
  const words = (key, values = {}) =>
    WORDS[words.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

  words.title = ({ key, title }) => TITLES[words.language]?.[key] ?? title;

  const { lang } = globalThis.document?.documentElement ?? {}; // a worker is told by its page
  words.language = lang in WORDS ? lang : "en";
  globalThis.words = words;
}
